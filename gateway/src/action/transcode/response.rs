//! From the encoded response message to an HTTP response: status, `Location`, `ETag`, body.

use std::borrow::Cow;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};
use prost_reflect::{Kind, MessageDescriptor};
use protojson::{Message, Path};
use upstream::Body;

use super::{
    super::{
        ConfigError,
        template::{Escape, Template},
    },
    ResponseConfig,
    accept::Format,
    etag, field, raw,
};
use crate::{
    descriptors::Binding,
    error::{Error, ErrorKind},
};

/// How the response message of one binding becomes an answer.
pub struct Plan {
    message: Message,
    body: Written,
    status: StatusCode,
    location: Option<Location>,
    etag: Option<Path>,
}

/// What of the message is written.
enum Written {
    All,
    Field(Path),
    /// Bytes of any type, as they are.
    Raw(raw::Place),
}

struct Location {
    template: Template,
    fields: Vec<(String, Path)>,
}

impl Plan {
    pub fn new(binding: &Binding, config: Option<&ResponseConfig>) -> Result<Self, Vec<ConfigError>> {
        let descriptor = binding.method.output();
        let missing = || vec![ConfigError::new("", format!("{} is not described", descriptor.full_name()))];
        let message = binding.schema.message(descriptor.full_name()).ok_or_else(missing)?;
        let mut errors = Vec::new();
        let field = binding.response_body.as_ref().and_then(|name| {
            field::top(&message, &descriptor, name)
                .map_err(|reason| errors.push(ConfigError::new("", format!("{binding}: response_body: {reason}"))))
                .ok()
        });
        let body = match (raw::Place::of(&descriptor, field.as_ref()), field) {
            (Some(place), _) => Written::Raw(place),
            (None, Some(field)) => Written::Field(field),
            (None, None) => Written::All,
        };
        // There is nothing in it that a body could say.
        let usual = if is_empty(&descriptor) { StatusCode::NO_CONTENT } else { StatusCode::OK };
        let status = match config.and_then(|config| config.status) {
            None => usual,
            Some(status) => StatusCode::from_u16(status).ok().filter(StatusCode::is_success).unwrap_or_else(|| {
                errors.push(ConfigError::new("response.status", "must be within 200 to 299"));
                usual
            }),
        };
        let location = config.and_then(|config| config.location.as_deref()).and_then(|location| {
            Location::new(location, &message)
                .map_err(|message| errors.push(ConfigError::new("response.location", message)))
                .ok()
        });
        let etag = message.path("etag").filter(|path| path.leaf().kind() == Kind::String && !path.leaf().is_list());
        if errors.is_empty() { Ok(Self { message, body, status, location, etag }) } else { Err(errors) }
    }

    /// Whether the answer is bytes of whatever type the service says.
    pub fn is_raw(&self) -> bool {
        matches!(self.body, Written::Raw(_))
    }

    /// The answer to a unary call.
    ///
    /// # Errors
    /// 502 if the service's answer isn't the message, or can't be written as JSON.
    pub fn response(&self, method: &Method, headers: &HeaderMap, message: Bytes) -> Result<Response<Body>, Error> {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = self.status;
        if let Some(etag) = self.etag.as_ref().and_then(|etag| etag.text(&message))
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
        if self.status == StatusCode::NO_CONTENT || self.status == StatusCode::RESET_CONTENT {
            return Ok(response);
        }
        *response.body_mut() = match self.raw(&message)? {
            Some(raw) => {
                raw.label(response.headers_mut());
                raw.data.into()
            }
            None => {
                let mut body = Vec::with_capacity(message.len() * 2 + 64);
                self.write(&message, &mut body)?;
                response.headers_mut().insert(header::CONTENT_TYPE, Format::Json.content_type());
                Bytes::from(body).into()
            }
        };
        Ok(response)
    }

    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The bytes that a message has as its body, if that is what it is for.
    ///
    /// # Errors
    /// 502, as [`Plan::response`].
    pub fn raw(&self, message: &Bytes) -> Result<Option<raw::Raw>, Error> {
        match self.body {
            Written::Raw(place) => place.read(message.clone()).map(Some).map_err(invalid),
            Written::All | Written::Field(_) => Ok(None),
        }
    }

    /// Appends one message as JSON.
    ///
    /// # Errors
    /// 502, as [`Plan::response`].
    pub fn write(&self, message: &[u8], buffer: &mut Vec<u8>) -> Result<(), Error> {
        match &self.body {
            Written::Field(field) => field.write(message, buffer),
            Written::All | Written::Raw(_) => self.message.write(message, buffer),
        }
        .map_err(invalid)
    }
}

impl Location {
    fn new(text: &str, message: &Message) -> Result<Self, String> {
        let template = Template::parse(text)?;
        let mut fields = Vec::new();
        for name in template.variables() {
            let path = message.path(name).filter(is_nameable);
            let path = path.ok_or_else(|| format!("`{{{name}}}` names no single field of {}", message.full_name()))?;
            fields.push((name.to_owned(), path));
        }
        Ok(Self { template, fields })
    }

    /// None where a field is empty: that would be the place of something else.
    fn value(&self, message: &[u8]) -> Option<HeaderValue> {
        let text = self.template.expand(Escape::Segment, |name| {
            let (_, path) = self.fields.iter().find(|(known, _)| known == name)?;
            path.text(message).filter(|text| !text.is_empty()).map(Cow::Owned)
        })?;
        HeaderValue::try_from(text).ok()
    }
}

fn is_nameable(path: &Path) -> bool {
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
