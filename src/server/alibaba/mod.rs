//! Alibaba Cloud KMS 2016-01-20: RPC over GET and POST, the parameters in query and form, answers in JSON or XML.

mod parameters;

pub use parameters::{ParameterError, Parameters};
