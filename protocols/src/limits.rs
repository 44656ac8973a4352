//! Owns every bound that a codec applies to what a peer declares or sends. The defaults are the
//! strict position. Refuses limits on time, rate and memory: those belong to the gateway.

/// What one message may hold. All checks are made on declared lengths, before anything is allocated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Largest Bolt content, in bytes. Default 16 MiB. What is above closes the connection.
    pub content_bytes_max: u32,
    /// Largest Bolt class name and header together, in bytes. Default 64 KiB. What is above
    /// closes the connection; each alone above 32,767 is a [`crate::HeadFault`].
    pub class_header_bytes_max: u32,
    /// Most fields of one header map that are looked at. Default 256. More is a [`crate::HeadFault`].
    pub header_fields_max: u32,
    /// Whether the CRC trailer of a Bolt v2 frame is verified. Default true.
    pub crc_verify: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            content_bytes_max: 16 << 20,
            class_header_bytes_max: 64 << 10,
            header_fields_max: 256,
            crc_verify: true,
        }
    }
}
