use tonic::Status;
use tonic_types::StatusExt as _;

/// The fields that a refusal names, in its order.
pub fn fields(refusal: &Status) -> Vec<String> {
    let Some(bad_request) = refusal.get_details_bad_request() else { panic!("no BadRequest in {refusal:?}") };
    bad_request.field_violations.into_iter().map(|violation| violation.field).collect()
}

/// The type and subject of each precondition that failed.
pub fn preconditions(refusal: &Status) -> Vec<(String, String)> {
    let failure = refusal.get_details_precondition_failure();
    let Some(failure) = failure else { panic!("no PreconditionFailure in {refusal:?}") };
    failure.violations.into_iter().map(|violation| (violation.r#type, violation.subject)).collect()
}
