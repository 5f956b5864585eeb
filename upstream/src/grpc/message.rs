//! The five bytes before every message: a flag (compressed or not) and the length, big-endian.

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};

use super::status::{Code, Status};

pub(super) const PREFIX: usize = 5;

/// A message with its prefix, as [`crate::Client::call`] takes them.
///
/// # Errors
/// RESOURCE_EXHAUSTED for one of 4 GiB and more.
pub fn frame(message: &[u8]) -> Result<Bytes, Status> {
    let length = u32::try_from(message.len())
        .map_err(|_| Status::new(Code::ResourceExhausted, "the message is larger than gRPC allows"))?;
    let mut framed = BytesMut::with_capacity(PREFIX + message.len());
    framed.put_u8(0);
    framed.put_u32(length);
    framed.put_slice(message);
    Ok(framed.freeze())
}

/// Takes messages out of data as it comes. One that arrives whole isn't copied.
#[derive(Default)]
pub(super) struct Deframer {
    unread: Bytes,
}

impl Deframer {
    /// More data; at most one message and what the stream's window holds is ever kept.
    pub fn push(&mut self, data: Bytes) {
        if self.unread.is_empty() {
            self.unread = data;
            return;
        }
        let unread = std::mem::take(&mut self.unread);
        // Unshared after the first time, so that a long message grows in place.
        let mut joined = unread.try_into_mut().unwrap_or_else(|shared| BytesMut::from(&shared[..]));
        joined.extend_from_slice(&data);
        self.unread = joined.freeze();
    }

    /// The next message, if all of it is here.
    pub fn take(&mut self, limit: usize) -> Result<Option<Bytes>, Status> {
        let Some((&[flag, a, b, c, d], rest)) = self.unread.split_first_chunk::<PREFIX>() else { return Ok(None) };
        if flag != 0 {
            return Err(Status::new(Code::Internal, "the message is compressed, which was not offered"));
        }
        let length = u32::from_be_bytes([a, b, c, d]) as usize;
        if length > limit {
            let message = format!("the message has {length} bytes, more than the {limit} allowed");
            return Err(Status::new(Code::ResourceExhausted, message));
        }
        if rest.len() < length {
            return Ok(None);
        }
        self.unread.advance(PREFIX);
        Ok(Some(self.unread.split_to(length)))
    }

    /// Whether the data ended between messages.
    pub fn is_empty(&self) -> bool {
        self.unread.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take_all(deframer: &mut Deframer) -> Vec<Bytes> {
        std::iter::from_fn(|| deframer.take(1024).unwrap()).collect()
    }

    #[test]
    fn messages_come_out_however_the_data_is_cut() {
        let messages: [&[u8]; 4] = [b"first", b"", b"third message", &[7; 300]];
        let data: Vec<u8> = messages.iter().flat_map(|message| frame(message).unwrap()).collect();
        for size in 1..=data.len() {
            let mut deframer = Deframer::default();
            let mut taken = Vec::new();
            for chunk in data.chunks(size) {
                deframer.push(Bytes::copy_from_slice(chunk));
                taken.extend(take_all(&mut deframer));
            }
            assert_eq!(taken, messages, "cut every {size} bytes");
            assert!(deframer.is_empty());
        }
    }

    #[test]
    fn a_message_over_the_limit_is_refused_before_it_is_here() {
        let mut deframer = Deframer::default();
        deframer.push(Bytes::from_static(&[0, 0, 0, 4, 1]));
        assert_eq!(deframer.take(1024).unwrap_err().code, Code::ResourceExhausted as i32);
    }

    #[test]
    fn a_compressed_message_is_refused() {
        let mut deframer = Deframer::default();
        deframer.push(Bytes::from_static(&[1, 0, 0, 0, 0]));
        assert_eq!(deframer.take(1024).unwrap_err().code, Code::Internal as i32);
    }
}
