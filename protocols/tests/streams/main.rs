//! What stands at the start of streams that are passed on unread: the header of the PROXY protocol, and the first message
//! of a TLS client. Golden bytes, every cut, every kind of fault, properties.

mod client_hello;
mod proxy_header;
