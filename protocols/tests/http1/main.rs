//! Tests of the HTTP/1.1 codec from outside: by what real peers say, by the cases of llhttp, by the rows of the list of
//! attacks, by rule and by property. One binary, so that it is linked once.

mod attacks;
mod body;
mod captures;
mod encode;
mod heads;
mod limits;
mod llhttp;
mod properties;
mod support;
