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
        429 | 503 => Class::Overload { after, processed: true },
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
        let (transient, overload) =
            (Class::Transient { after }, Class::Overload { after, processed: true });
        let rows: &[(&[u16], Class)] = &[
            (&[100, 103, 200, 201, 204, 299, 301, 304, 308, 399], Class::Success),
            (&[429, 503], overload),
            (&[408, 500, 502, 504], transient),
            (&[501, 505, 506, 508, 510, 511], Class::Permanent),
            (&[507, 509, 520, 529, 599, 600, 999], transient),
            (
                &[400, 401, 403, 404, 405, 409, 410, 412, 413, 421, 422, 425, 431, 451, 499],
                Class::Permanent,
            ),
        ];
        for (statuses, expected) in rows {
            for &status in *statuses {
                let status = StatusCode::from_u16(status).unwrap();
                assert_eq!(class(status, after), *expected, "{status}");
            }
        }
    }
}
