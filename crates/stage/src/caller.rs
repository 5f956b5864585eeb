use principal::{METADATA, Principal};
use tonic::{
    Request, Status,
    service::{Interceptor, interceptor::InterceptedService},
    transport::Channel,
};

/// Calls as somebody: what a generated client is made of (`ProductServiceClient::new(caller)`).
pub type Caller = InterceptedService<Channel, Token>;

/// Adds a principal's token to each call.
#[derive(Clone)]
pub struct Token(pub(crate) Option<String>);

impl Interceptor for Token {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(token) = &self.0 {
            request.metadata_mut().insert(METADATA, token.parse().unwrap());
        }
        Ok(request)
    }
}

pub fn principal(subject: &str, scopes: &[&str]) -> Principal {
    let scopes = scopes.iter().map(|&scope| scope.to_owned()).collect();
    Principal { subject: subject.to_owned(), scopes, ..Principal::default() }
}
