//! SOFABolt v1 and v2 on the wire: frames, header maps, statuses and the CRC trailer.
//! All integers are big-endian. Refuses to look into class and content: they are opaque to us.

pub mod status;

pub mod fields;

pub mod crc;

pub mod frame;

pub mod encode;

pub use encode::{
    EncodeFault, RequestParts, ResponseParts, encode_error, encode_goaway, encode_heartbeat,
    encode_heartbeat_ack, encode_request, encode_response,
};
pub use frame::{Decoded, Frame, Kind, Version, decode, peek};
pub use status::Status;
