"""Mean-field theory of deep networks of any registered activation.

    edge_of_chaos.edge_of_chaos      every critical w_std for a b_std, and which are stable
    phase.phase                      ordered, chaotic, edge of chaos or unbounded, with q* and chi
    variance_map, correlation_map    one layer's maps, their fixed points and slopes
    depth_limit.depth_limit          limits of NNGP and NTK, normalisers, predicted rates
    convergence.depth_convergence    the measured table: distances to the limit against depth

Everything follows from the dual kernels in workers/kernels/duals; no activation is known here.
"""
