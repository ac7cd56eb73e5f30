//! Which key a request belongs to.

use std::hash::Hash;

/// Reads from a request the key it belongs to: a host, a tenant, a partition.
///
/// Closures `Fn(&Req) -> K` do; annotate the type of the request: `|request: &Request| request.tenant`. It is asked
/// once per call, under no lock.
///
/// Implement it by hand where making a key costs an allocation that a look-up does not need: [`Found`](Self::Found)
/// then borrows from the request, and becomes a [`Key`](Self::Key) only when a key comes for the first time.
///
/// # Example
///
/// ```
/// use stockade_core::KeyOf;
///
/// struct Request {
///     tenant: String,
/// }
///
/// #[derive(PartialEq, Eq, Hash)]
/// struct Tenant(String);
///
/// /// What is looked up. It hashes as the key does, because a `str` hashes as a `String` does.
/// #[derive(Hash)]
/// struct Borrowed<'a>(&'a str);
///
/// impl PartialEq<Tenant> for Borrowed<'_> {
///     fn eq(&self, tenant: &Tenant) -> bool {
///         self.0 == tenant.0
///     }
/// }
///
/// impl From<Borrowed<'_>> for Tenant {
///     fn from(found: Borrowed<'_>) -> Self {
///         Self(found.0.to_owned())
///     }
/// }
///
/// struct ByTenant;
///
/// impl KeyOf<Request> for ByTenant {
///     type Key = Tenant;
///     type Found<'a> = Borrowed<'a>;
///
///     fn key_of<'a>(&self, request: &'a Request) -> Borrowed<'a> {
///         Borrowed(&request.tenant)
///     }
/// }
///
/// let request = Request { tenant: "a".to_owned() };
/// assert!(ByTenant.key_of(&request) == Tenant("a".to_owned()));
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not read a key from a `{Req}`",
    note = "write a closure with the type of the request: `|request: &Request| request.tenant.clone()`"
)]
pub trait KeyOf<Req> {
    /// What is kept.
    type Key: Eq + Hash;

    /// What is looked up. It has the hash of the key that it is equal to.
    type Found<'a>: Hash + PartialEq<Self::Key> + Into<Self::Key>
    where
        Req: 'a;

    /// The key of this request.
    fn key_of<'a>(&self, request: &'a Req) -> Self::Found<'a>;
}

impl<Req, K, F> KeyOf<Req> for F
where
    K: Eq + Hash,
    F: Fn(&Req) -> K,
{
    type Key = K;
    type Found<'a>
        = K
    where
        Req: 'a;

    #[inline]
    fn key_of(&self, request: &Req) -> K {
        self(request)
    }
}
