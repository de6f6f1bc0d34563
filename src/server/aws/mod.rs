//! AWS KMS: JSON 1.1 over POST, the operation in `X-Amz-Target: TrentService.…`, signed by SigV4.
