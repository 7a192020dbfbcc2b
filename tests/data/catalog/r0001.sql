BEGIN TRANSACTION;
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('r0001');
CREATE TABLE datasets (
	id VARCHAR(64) NOT NULL, 
	name TEXT, 
	info JSON NOT NULL, 
	created_at DATETIME NOT NULL, 
	CONSTRAINT pk_datasets PRIMARY KEY (id)
);
INSERT INTO "datasets" VALUES('ds-ec31682fde561917952ff78a7a8adeff','x1','{"id":"ds-ec31682fde561917952ff78a7a8adeff","shape":[4,2],"dtype":"float32","stored_bytes":320}','2026-11-26 11:55:51.547656');
CREATE TABLE events (
	job_id VARCHAR(64) NOT NULL, 
	sequence BIGINT NOT NULL, 
	type VARCHAR(64) NOT NULL, 
	data JSON NOT NULL, 
	created_at DATETIME NOT NULL, 
	CONSTRAINT pk_events PRIMARY KEY (job_id, sequence), 
	CONSTRAINT fk_events_job_id FOREIGN KEY(job_id) REFERENCES jobs (id) ON DELETE CASCADE
);
INSERT INTO "events" VALUES('job-a4c3ed04a95a3da14a9d235c83d868be',1,'state','{"state":"running"}','2026-11-26 11:55:51.595838');
INSERT INTO "events" VALUES('job-a4c3ed04a95a3da14a9d235c83d868be',2,'state','{"state":"succeeded"}','2026-11-26 11:55:51.602653');
CREATE TABLE idempotency_keys (
	"key" TEXT NOT NULL, 
	body_digest VARCHAR(64) NOT NULL, 
	job_id VARCHAR(64) NOT NULL, 
	created_at DATETIME NOT NULL, 
	CONSTRAINT pk_idempotency_keys PRIMARY KEY ("key"), 
	CONSTRAINT fk_idempotency_keys_job_id FOREIGN KEY(job_id) REFERENCES jobs (id) ON DELETE CASCADE
);
INSERT INTO "idempotency_keys" VALUES('retry-1','a4c3ed04a95a3da14a9d235c83d868bed7c0f45cf7f3faa751ee8f50598d2211','job-a4c3ed04a95a3da14a9d235c83d868be','2026-11-26 11:55:51.577767');
CREATE TABLE job_inputs (
	job_id VARCHAR(64) NOT NULL, 
	input_id VARCHAR(64) NOT NULL, 
	CONSTRAINT pk_job_inputs PRIMARY KEY (job_id, input_id), 
	CONSTRAINT fk_job_inputs_job_id FOREIGN KEY(job_id) REFERENCES jobs (id) ON DELETE CASCADE
);
INSERT INTO "job_inputs" VALUES('job-a4c3ed04a95a3da14a9d235c83d868be','ds-ec31682fde561917952ff78a7a8adeff');
INSERT INTO "job_inputs" VALUES('job-c071cf5f5ed6f884cc70155b6f05f755','ds-ec31682fde561917952ff78a7a8adeff');
INSERT INTO "job_inputs" VALUES('job-d36be6494248ee06ac18f38ea1119dfe','mx-8254c329a92850f6d539dd376f4816ee');
CREATE TABLE jobs (
	id VARCHAR(64) NOT NULL, 
	task JSON NOT NULL, 
	request_digest VARCHAR(64) NOT NULL, 
	body_digest VARCHAR(64) NOT NULL, 
	matrix_id VARCHAR(64), 
	state VARCHAR(16) NOT NULL, 
	target VARCHAR(16) NOT NULL, 
	attempts INTEGER NOT NULL, 
	event_count BIGINT NOT NULL, 
	estimate JSON, 
	progress JSON, 
	error JSON, 
	result JSON, 
	created_at DATETIME NOT NULL, 
	started_at DATETIME, 
	finished_at DATETIME, 
	updated_at DATETIME NOT NULL, 
	CONSTRAINT pk_jobs PRIMARY KEY (id), 
	CONSTRAINT ck_jobs_state CHECK (state IN ('queued', 'running', 'succeeded', 'failed', 'cancelled')), 
	CONSTRAINT ck_jobs_target CHECK (target IN ('run', 'cancel'))
);
INSERT INTO "jobs" VALUES('job-a4c3ed04a95a3da14a9d235c83d868be','{"type":"gram","x1":"ds-ec31682fde561917952ff78a7a8adeff"}','a4c3ed04a95a3da14a9d235c83d868bed7c0f45cf7f3faa751ee8f50598d2211','a4c3ed04a95a3da14a9d235c83d868bed7c0f45cf7f3faa751ee8f50598d2211','mx-8254c329a92850f6d539dd376f4816ee','succeeded','run',1,2,'{"tiles":3}','{"fraction":1.0}',NULL,'{"matrix":"mx-8254c329a92850f6d539dd376f4816ee","summary":{"tiles":3}}','2026-11-26 11:55:51.577767','2026-11-26 11:55:51.592179','2026-11-26 11:55:51.600532','2026-11-26 11:55:51.600682');
INSERT INTO "jobs" VALUES('job-c071cf5f5ed6f884cc70155b6f05f755','{"type":"gram","x1":"ds-ec31682fde561917952ff78a7a8adeff"}','c071cf5f5ed6f884cc70155b6f05f755fd46a302d05e4261b7e92ce878bbfed8','c071cf5f5ed6f884cc70155b6f05f755fd46a302d05e4261b7e92ce878bbfed8','mx-7bc6220d36ab0e425eecd5e1b916c44e','running','run',1,0,'{"tiles":3}',NULL,NULL,NULL,'2026-11-26 11:55:51.604428','2026-11-26 11:55:51.608912',NULL,'2026-11-26 11:55:51.609276');
INSERT INTO "jobs" VALUES('job-d36be6494248ee06ac18f38ea1119dfe','{"type":"solve","matrix":"mx-8254c329a92850f6d539dd376f4816ee"}','d36be6494248ee06ac18f38ea1119dfe4699fdcfcbbcc30a2e4f1ccbce68dfac','d36be6494248ee06ac18f38ea1119dfe4699fdcfcbbcc30a2e4f1ccbce68dfac',NULL,'queued','run',0,0,'{"tiles":3}',NULL,NULL,NULL,'2026-11-26 11:55:51.611583',NULL,NULL,'2026-11-26 11:55:51.611583');
INSERT INTO "jobs" VALUES('job-5d28a90f4498a81461efbaf6f628a19d','{"type":"gram"}','5d28a90f4498a81461efbaf6f628a19d9778390bb5c81a393dd936181cc3d826','5d28a90f4498a81461efbaf6f628a19d9778390bb5c81a393dd936181cc3d826',NULL,'failed','run',0,0,'{"tiles":3}',NULL,'{"kind":"x","message":"m","advice":"a"}',NULL,'2026-11-26 11:55:51.615571',NULL,'2026-11-26 11:55:51.618625','2026-11-26 11:55:51.618770');
CREATE TABLE matrices (
	id VARCHAR(64) NOT NULL, 
	kind VARCHAR(32) NOT NULL, 
	manifest JSON NOT NULL, 
	state VARCHAR(16) NOT NULL, 
	digest VARCHAR(64), 
	stored_bytes BIGINT, 
	created_at DATETIME NOT NULL, 
	sealed_at DATETIME, 
	CONSTRAINT pk_matrices PRIMARY KEY (id), 
	CONSTRAINT ck_matrices_state CHECK (state IN ('building', 'sealed')), 
	CONSTRAINT ck_matrices_sealed_has_digest CHECK ((state = 'sealed') = (digest IS NOT NULL))
);
INSERT INTO "matrices" VALUES('mx-8254c329a92850f6d539dd376f4816ee','gram','{"id":"mx-8254c329a92850f6d539dd376f4816ee","provenance":{"request":{"x1":"ds-ec31682fde561917952ff78a7a8adeff"}}}','sealed','c9d0036bed6744bcdf692fc980d8717d7e5f5a4f4e8266b4a84982602fb1cd09',3000,'2026-11-26 11:55:51.560837','2026-11-26 11:55:51.569643');
INSERT INTO "matrices" VALUES('mx-7bc6220d36ab0e425eecd5e1b916c44e','gram','{"id":"mx-7bc6220d36ab0e425eecd5e1b916c44e"}','building',NULL,NULL,'2026-11-26 11:55:51.573816',NULL);
CREATE TABLE matrix_inputs (
	matrix_id VARCHAR(64) NOT NULL, 
	input_id VARCHAR(64) NOT NULL, 
	CONSTRAINT pk_matrix_inputs PRIMARY KEY (matrix_id, input_id), 
	CONSTRAINT fk_matrix_inputs_matrix_id FOREIGN KEY(matrix_id) REFERENCES matrices (id) ON DELETE CASCADE
);
INSERT INTO "matrix_inputs" VALUES('mx-8254c329a92850f6d539dd376f4816ee','ds-ec31682fde561917952ff78a7a8adeff');
CREATE TABLE rates (
	"key" TEXT NOT NULL, 
	seconds FLOAT NOT NULL, 
	pairs BIGINT NOT NULL, 
	updated_at DATETIME NOT NULL, 
	CONSTRAINT pk_rates PRIMARY KEY ("key")
);
INSERT INTO "rates" VALUES('fc/2',9.99999999999999912396e-06,10,'2026-11-26 11:55:51.621450');
CREATE TABLE tiles (
	matrix_id VARCHAR(64) NOT NULL, 
	array VARCHAR(32) NOT NULL, 
	i INTEGER NOT NULL, 
	j INTEGER NOT NULL, 
	digest BLOB NOT NULL, 
	seconds FLOAT NOT NULL, 
	minimum FLOAT, 
	maximum FLOAT, 
	nonfinite BIGINT NOT NULL, 
	stored_bytes BIGINT NOT NULL, 
	CONSTRAINT pk_tiles PRIMARY KEY (matrix_id, array, i, j), 
	CONSTRAINT fk_tiles_matrix_id FOREIGN KEY(matrix_id) REFERENCES matrices (id) ON DELETE CASCADE
)
 WITHOUT ROWID

;
INSERT INTO "tiles" VALUES('mx-7bc6220d36ab0e425eecd5e1b916c44e','ntk',0,0,X'6F0024A4939B351EC9F89DD3B78131BE40BC415ABD3E6063CCBB9A55BBF75B8C',0.25,0.0,0.5,0,1000);
INSERT INTO "tiles" VALUES('mx-8254c329a92850f6d539dd376f4816ee','ntk',0,0,X'6F0024A4939B351EC9F89DD3B78131BE40BC415ABD3E6063CCBB9A55BBF75B8C',0.25,0.0,0.5,0,1000);
INSERT INTO "tiles" VALUES('mx-8254c329a92850f6d539dd376f4816ee','ntk',0,1,X'93A97A0C151550B894F7D067CDC94D19633D4E70F289D9A45D428D192879748A',0.25,0.0,1.5,0,1000);
INSERT INTO "tiles" VALUES('mx-8254c329a92850f6d539dd376f4816ee','ntk',1,1,X'B58BF044925A3B9BF555B4CF6D39BBF29545DC46CF705B57B94EB7AE8FB61D64',0.25,1.0,1.5,0,1000);
CREATE INDEX ix_datasets_created_at_id ON datasets (created_at, id);
CREATE INDEX ix_matrices_created_at_id ON matrices (created_at, id);
CREATE INDEX ix_matrix_inputs_input_id ON matrix_inputs (input_id);
CREATE INDEX ix_jobs_request_digest ON jobs (request_digest);
CREATE INDEX ix_jobs_matrix_id ON jobs (matrix_id);
CREATE INDEX ix_jobs_created_at_id ON jobs (created_at, id);
CREATE INDEX ix_jobs_state_created_at_id ON jobs (state, created_at, id);
CREATE UNIQUE INDEX uq_jobs_wanted_request ON jobs (request_digest) WHERE state IN ('queued', 'running') AND target = 'run';
CREATE INDEX ix_job_inputs_input_id ON job_inputs (input_id);
CREATE INDEX ix_idempotency_keys_job_id ON idempotency_keys (job_id);
COMMIT;
