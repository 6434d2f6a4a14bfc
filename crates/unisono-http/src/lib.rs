//! The HTTP client behind `unisono fetch`: pool, DNS, TLS, redirects, decoding.
