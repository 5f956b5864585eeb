//! Which instances of a service there are: announced with heartbeats, followed by those who call it.
