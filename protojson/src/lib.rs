//! JSON to the protobuf wire format and back, by tables compiled from descriptors.
