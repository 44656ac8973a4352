//! Tests of the Bolt codec from outside, by the frames of other implementations, by rule and by
//! property. One binary, so that it is linked once.

mod answers;
mod codec;
mod faults;
mod golden;
mod header;
mod offers;
mod properties;
