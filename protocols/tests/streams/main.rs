//! What stands at the start of streams that are passed on unread: the header of the PROXY protocol, and the first message
//! of a TLS client; and where the frames of WebSockets end. Golden bytes, every cut, every kind of fault, properties.

mod client_hello;
mod proxy_header;
mod websocket;
