//! The domain of a key management service: what a key is, which states it may be in, what it may do in each
//! of them, and the limits. It knows neither Kubernetes nor HTTP, and takes the clock as an argument.

pub mod desired_key;
pub mod encryption_context;
mod import;
pub mod key_record;
mod key_state;
mod key_step;
pub mod limits;
mod resource_name;

pub use desired_key::DesiredKey;
pub use encryption_context::EncryptionContext;
pub use import::{WrappingAlgorithm, WrappingKeySpec};
pub use key_record::{KeyRecord, Owner};
pub use key_state::{AutomaticRotation, Dialect, KeyFacts, KeyState, KeyUsage, Operation, Origin, Rejected};
pub use key_step::{KeyStep, StepError};
pub use resource_name::ResourceName;
