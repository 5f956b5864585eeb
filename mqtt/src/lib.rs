//! Between an MQTT broker and the bus, both ways.
#![expect(dead_code, reason = "the role comes next")]

mod topic;
