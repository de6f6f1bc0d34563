use serde_json::{Value, json};

use super::*;
use crate::api::testing::check;
