//! What gRPC's status codes are called in metrics and spans.

/// By their numbers (<https://grpc.io/docs/guides/status-codes/>).
const NAMES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

/// The name of a code as gRPC spells it; a number that is none is UNKNOWN, as the specification has it.
pub fn code_name(code: i32) -> &'static str {
    usize::try_from(code).ok().and_then(|code| NAMES.get(code).copied()).unwrap_or("UNKNOWN")
}

#[cfg(test)]
mod tests {
    use tonic::Code;

    use super::code_name;

    #[test]
    fn a_code_is_called_as_grpc_spells_it() {
        for code in 0..17 {
            let spelt = format!("{:?}", Code::from(code)).to_uppercase();
            assert_eq!(code_name(code).replace('_', ""), spelt);
        }
        assert_eq!((code_name(17), code_name(-1)), ("UNKNOWN", "UNKNOWN"));
    }
}
