"""The demonstration: one real data set through the whole service, checked on the way."""
