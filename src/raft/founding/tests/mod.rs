//! Founding told as golden scripts, and founding under random crashes, wipes, twins and mail.

mod hostile;
mod random;
mod script;
mod taken_in;
mod wire;
mod world;
