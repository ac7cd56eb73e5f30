//! What a status means.

use std::time::Duration;

use http::StatusCode;
use stockade_core::Class;

/// The class of an answer with this status, and with this hint in it. The table is on the
/// [module's](super) page.
///
/// # Example
///
/// ```
/// use http::StatusCode;
/// use stockade_clients::http::class;
/// use stockade_core::Class;
///
/// assert_eq!(class(StatusCode::SERVICE_UNAVAILABLE, None), Class::OVERLOAD);
/// ```
pub fn class(status: StatusCode, after: Option<Duration>) -> Class {
    match status.as_u16() {
        429 => Class::Overload { after, processed: false },
        // 529 is no standard, but some services say it for the same.
        503 | 529 => Class::Overload { after, processed: true },
        // The server, or a proxy in front of it, says no and when to come back.
        403 | 413 if after.is_some() => Class::Overload { after, processed: false },
        421 | 425 => Class::NoEffect { after },
        501 | 505 | 506 | 508 | 510 | 511 => Class::Permanent,
        408 | 500..=599 => Class::Transient { after },
        400..=499 => Class::Permanent,
        ..=399 => Class::Success,
        // No class of statuses: nothing is known of it, but that it is not as it should be.
        600.. => Class::Transient { after },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_status_has_the_class_of_the_table() {
        let after = Some(Duration::from_secs(3));
        let transient = Class::Transient { after };
        let overload = |processed| Class::Overload { after, processed };
        let rows: &[(&[u16], Class)] = &[
            (&[100, 103, 200, 201, 204, 299, 301, 304, 308, 399], Class::Success),
            (&[429, 403, 413], overload(false)),
            (&[503, 529], overload(true)),
            (&[421, 425], Class::NoEffect { after }),
            (&[408, 500, 502, 504], transient),
            (&[501, 505, 506, 508, 510, 511], Class::Permanent),
            (&[507, 509, 520, 521, 522, 523, 524, 525, 526, 527, 599, 600, 999], transient),
            (&[400, 401, 404, 405, 409, 410, 412, 422, 423, 431, 451, 499], Class::Permanent),
        ];
        for (statuses, expected) in rows {
            for &status in *statuses {
                let status = StatusCode::from_u16(status).unwrap();
                assert_eq!(class(status, after), *expected, "{status}");
            }
        }
    }

    #[test]
    fn a_refusal_that_names_no_time_is_permanent() {
        for status in [StatusCode::FORBIDDEN, StatusCode::PAYLOAD_TOO_LARGE] {
            assert_eq!(class(status, None), Class::Permanent, "{status}");
        }
    }
}
