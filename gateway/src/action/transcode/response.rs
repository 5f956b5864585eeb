//! From the response message to an HTTP response: status, `Location`, `ETag`, body.

use std::borrow::Cow;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};
use prost_reflect::{DynamicMessage, Kind, MessageDescriptor, Value};
use protojson::dynamic::{FieldPath, write_field, write_message};
use upstream::Body;

use super::{
    super::{
        ConfigError,
        template::{Escape, Template},
    },
    ResponseConfig,
    accept::Format,
    etag,
};
use crate::{
    descriptors::Binding,
    error::{Error, ErrorKind},
};

/// How the response message of one binding becomes an answer.
pub struct Plan {
    message: MessageDescriptor,
    /// The only field that is written, if not all of them.
    field: Option<FieldPath>,
    status: StatusCode,
    location: Option<Location>,
    etag: Option<FieldPath>,
}

struct Location {
    template: Template,
    fields: Vec<(String, FieldPath)>,
}

impl Plan {
    pub fn new(binding: &Binding, config: Option<&ResponseConfig>) -> Result<Self, Vec<ConfigError>> {
        let message = binding.method.output();
        let mut errors = Vec::new();
        let field = binding.response_body.as_ref().and_then(|name| {
            let field = FieldPath::resolve(&message, name);
            if field.is_none() {
                errors.push(ConfigError::new("", format!("{} has no field `{name}`", message.full_name())));
            }
            field
        });
        // There is nothing in it that a body could say.
        let usual = if is_empty(&message) { StatusCode::NO_CONTENT } else { StatusCode::OK };
        let status = match config.and_then(|config| config.status) {
            None => usual,
            Some(status) => StatusCode::from_u16(status).ok().filter(StatusCode::is_success).unwrap_or_else(|| {
                errors.push(ConfigError::new("response.status", "must be within 200 to 299"));
                usual
            }),
        };
        let location = config.and_then(|config| config.location.as_deref()).and_then(|location| {
            Location::new(location, &message)
                .map_err(|message| {
                    errors.push(ConfigError::new("response.location", message));
                })
                .ok()
        });
        let etag = FieldPath::resolve(&message, "etag").filter(|path| path.leaf().kind() == Kind::String);
        if errors.is_empty() { Ok(Self { message, field, status, location, etag }) } else { Err(errors) }
    }

    /// The answer to a unary call.
    ///
    /// # Errors
    /// 502 if the service's answer isn't the message, or can't be written as JSON.
    pub fn response(&self, method: &Method, headers: &HeaderMap, message: Bytes) -> Result<Response<Body>, Error> {
        let message = self.decode(message)?;
        let mut response = Response::new(Body::empty());
        *response.status_mut() = self.status;
        if let Some(etag) = self.etag(&message)
            && let Some(value) = etag::header_value(&etag)
        {
            response.headers_mut().insert(header::ETAG, value);
            if method.is_safe() && etag::is_known(headers, &etag) {
                *response.status_mut() = StatusCode::NOT_MODIFIED;
                return Ok(response);
            }
        }
        if let Some(location) = self.location.as_ref().and_then(|location| location.value(&message)) {
            response.headers_mut().insert(header::LOCATION, location);
        }
        if self.status != StatusCode::NO_CONTENT && self.status != StatusCode::RESET_CONTENT {
            let mut body = Vec::with_capacity(512);
            self.write(&message, &mut body)?;
            response.headers_mut().insert(header::CONTENT_TYPE, Format::Json.content_type());
            *response.body_mut() = Bytes::from(body).into();
        }
        Ok(response)
    }

    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// Appends one message of a stream as JSON.
    ///
    /// # Errors
    /// 502, as [`Plan::response`].
    pub fn write_encoded(&self, message: Bytes, buffer: &mut Vec<u8>) -> Result<(), Error> {
        self.write(&self.decode(message)?, buffer)
    }

    fn decode(&self, message: Bytes) -> Result<DynamicMessage, Error> {
        DynamicMessage::decode(self.message.clone(), message).map_err(invalid)
    }

    fn write(&self, message: &DynamicMessage, buffer: &mut Vec<u8>) -> Result<(), Error> {
        match &self.field {
            Some(field) => write_field(message, field, buffer),
            None => write_message(message, buffer),
        }
        .map_err(invalid)
    }

    fn etag(&self, message: &DynamicMessage) -> Option<String> {
        let value = self.etag.as_ref()?.get(message)?;
        value.as_str().filter(|etag| !etag.is_empty()).map(str::to_owned)
    }
}

impl Location {
    fn new(text: &str, message: &MessageDescriptor) -> Result<Self, String> {
        let template = Template::parse(text)?;
        let mut fields = Vec::new();
        for name in template.variables() {
            let path = FieldPath::resolve(message, name).filter(is_nameable);
            let path = path.ok_or_else(|| format!("`{{{name}}}` names no single field of {}", message.full_name()))?;
            fields.push((name.to_owned(), path));
        }
        Ok(Self { template, fields })
    }

    /// None where a field is empty: that would be the place of something else.
    fn value(&self, message: &DynamicMessage) -> Option<HeaderValue> {
        let text = self.template.expand(Escape::Segment, |name| {
            let (_, path) = self.fields.iter().find(|(known, _)| known == name)?;
            let value = path.get(message)?;
            let text = match value.as_ref() {
                Value::String(text) => text.clone(),
                Value::Bool(value) => value.to_string(),
                Value::I32(value) => value.to_string(),
                Value::I64(value) => value.to_string(),
                Value::U32(value) => value.to_string(),
                Value::U64(value) => value.to_string(),
                _ => return None,
            };
            (!text.is_empty()).then_some(Cow::Owned(text))
        })?;
        HeaderValue::try_from(text).ok()
    }
}

fn is_nameable(path: &FieldPath) -> bool {
    let kind = path.leaf().kind();
    !path.leaf().is_list()
        && !path.leaf().is_map()
        && !matches!(kind, Kind::Message(_) | Kind::Enum(_) | Kind::Bytes | Kind::Double | Kind::Float)
}

fn is_empty(message: &MessageDescriptor) -> bool {
    message.full_name() == "google.protobuf.Empty"
}

fn invalid(error: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::BadGateway, "the service gave no valid answer").cause(error)
}
