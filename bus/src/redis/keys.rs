//! Every key the bus has in Redis. All of a partition lie in one slot, by the tag `{QUEUE:partition}`.
