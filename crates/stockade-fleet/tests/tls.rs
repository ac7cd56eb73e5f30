//! A Redis over TLS: whom it trusts, whom we trust, and what is said when that does not fit.
#![allow(clippy::unwrap_used, reason = "a failure here is a failed test")]

mod common;

use std::time::Duration;

use common::passes;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair,
};
use stockade_fleet::{
    Fault, Redis, RedisError,
    rate::{Outage, RateLayer},
};
use stockade_test_servers::{self as servers, Server};

const HOUR: Duration = Duration::from_secs(3_600);
/// All that ASCII has beside letters and digits.
const PASSWORD: &str = "s3cret !\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~";
const ENCODED: &str = "s3cret%20%21%22%23%24%25%26%27%28%29%2A%2B%2C%2D%2E%2F%3A%3B%3C%3D%3E%3F%40%5B%5C%5D%5E\
    %5F%60%7B%7C%7D%7E";

/// One that signs the certificates of a test.
struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key, as PEM.
struct Identity {
    certificate: String,
    key: String,
}

// === impl Authority ===

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::new([]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn pem(&self) -> String {
        self.0.pem()
    }

    fn sign(&self, name: &str) -> Identity {
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap().pem();
        Identity { certificate, key: key.serialize_pem() }
    }

    /// A Redis whose certificate is for `name`.
    fn server(&self, name: &str) -> servers::Redis {
        let Identity { certificate, key } = self.sign(name);
        servers::Redis::new().tls(&certificate, &key, &self.pem()).password(PASSWORD)
    }
}

fn redis(server: &Server) -> Redis {
    let redis = Redis::new(&server.url()).unwrap();
    redis.patience(Duration::from_secs(2)).connect_timeout(Duration::from_secs(5))
}

/// What `redis` says is wrong, which is no secret.
async fn error(redis: &Redis) -> RedisError {
    let error = redis.check().await.unwrap_err();
    for said in [format!("{error} {error:?}"), format!("{redis:?}")] {
        assert!(!said.contains("s3cret") && !said.contains("PRIVATE"), "{said}");
    }
    let place = redis.place();
    assert!(error.to_string().starts_with(&format!("redis at {place}: ")), "{error}");
    error
}

#[tokio::test]
async fn a_certificate_by_an_authority_that_is_trusted_lets_calls_pass() {
    let authority = Authority::new("ours");
    let server = authority.server("127.0.0.1").start().await.unwrap();
    assert_eq!(server.url(), format!("rediss://:{ENCODED}@{}", server.address()));
    let redis = redis(&server).trust(authority.pem().as_bytes()).unwrap();
    redis.check().await.unwrap();
    let layer = RateLayer::new(&redis, "key", 1, HOUR).queue(0).outage(Outage::Closed);
    assert!(passes(&layer).await);
    assert!(!passes(&layer).await, "the bucket is in the Redis");
}

#[tokio::test]
async fn a_certificate_by_an_authority_that_nobody_knows_is_told_as_such() {
    let server = Authority::new("theirs").server("127.0.0.1").start().await.unwrap();
    let redis = redis(&server);
    for redis in [redis.clone(), redis.trust(Authority::new("ours").pem().as_bytes()).unwrap()] {
        let error = error(&redis).await;
        assert_eq!(error.fault(), Fault::Tls, "{error}");
        let said =
            "no TLS connection that can be trusted (invalid peer certificate: UnknownIssuer)";
        assert_eq!(error.to_string(), format!("redis at {}: {said}", redis.place()));
    }
}

#[tokio::test]
async fn a_certificate_for_another_name_is_told_with_both_names() {
    let authority = Authority::new("ours");
    let server = authority.server("redis.example").start().await.unwrap();
    let url = server.url().replace("127.0.0.1", "localhost");
    let redis = Redis::new(&url).unwrap().trust(authority.pem().as_bytes()).unwrap();
    let error = error(&redis).await;
    assert_eq!(error.fault(), Fault::Tls, "{error}");
    let said = error.to_string();
    assert!(said.contains("\"localhost\"") && said.contains("redis.example"), "{said}");
}

#[tokio::test]
async fn a_server_that_wants_a_certificate_lets_in_only_who_shows_one() {
    let authority = Authority::new("ours");
    let server = authority.server("127.0.0.1").set("tls-auth-clients", "yes");
    let server = server.start().await.unwrap();
    let redis = redis(&server).trust(authority.pem().as_bytes()).unwrap();

    let said = error(&redis).await;
    assert_eq!(said.fault(), Fault::Tls, "{said}");
    let stranger = Authority::new("theirs").sign("node");
    let Identity { certificate, key } = authority.sign("node");
    let (certificate, key) = (certificate.as_bytes(), key.as_bytes());
    let strange = (stranger.certificate.as_bytes(), stranger.key.as_bytes());
    let refused = redis.clone().identity(strange.0, strange.1).unwrap();
    let said = error(&refused).await;
    assert_eq!(said.fault(), Fault::Tls, "{said}");
    let mixed = redis.clone().identity(certificate, strange.1).unwrap();
    let said = error(&mixed).await;
    assert_eq!(said.fault(), Fault::Tls, "{said}");

    redis.identity(certificate, key).unwrap().check().await.unwrap();
}

#[tokio::test]
async fn a_side_that_speaks_no_tls_is_told_as_such() {
    let authority = Authority::new("ours");
    let plain = servers::Redis::new().start().await.unwrap();
    let url = plain.url().replace("redis://", "rediss://:s3cret@");
    let limit = Duration::from_millis(500);
    let asked = Redis::new(&url).unwrap().connect_timeout(limit);
    let silent = error(&asked.trust(authority.pem().as_bytes()).unwrap()).await;
    assert_eq!(silent.fault(), Fault::TimedOut, "a Redis waits for the end of the line");
    assert!(silent.to_string().contains("connecting over TLS took longer than 500ms"), "{silent}");

    let tls = authority.server("127.0.0.1").start().await.unwrap();
    let asked = Redis::new(&tls.url().replace("rediss://", "redis://")).unwrap();
    let closed = error(&asked).await;
    assert_eq!(closed.fault(), Fault::Lost);
    assert!(closed.to_string().contains("; it may want TLS"), "{closed}");
}

#[test]
fn what_is_no_certificate_or_needs_none_is_refused_at_once() {
    let authority = Authority::new("ours");
    let redis = || Redis::new("rediss://:s3cret@localhost:1").unwrap();
    for nothing in
        ["", "s3cret", "-----BEGIN PRIVATE KEY-----\ns3cret\n-----END PRIVATE KEY-----\n"]
    {
        let error = redis().trust(nothing.as_bytes()).unwrap_err();
        assert_eq!(error.fault(), Fault::Tls, "{error}");
        let said = "(the authorities: expected PEM with a certificate)";
        assert!(error.to_string().ends_with(said), "{error}");
        assert!(redis().identity(nothing.as_bytes(), b"").is_err());
    }
    let error = redis().identity(authority.pem().as_bytes(), b"s3cret").unwrap_err();
    assert_eq!(error.fault(), Fault::Tls, "{error}");
    assert!(!error.to_string().contains("s3cret"), "{error}");
    let beyond = Redis::new("rediss://host:6379/0#s3cret").unwrap_err();
    assert_eq!(beyond.fault(), Fault::Url);
    assert!(!beyond.to_string().contains("s3cret"), "{beyond}");
    let plain = Redis::new("redis://:s3cret@localhost:1").unwrap();
    let error = plain.trust(authority.pem().as_bytes()).unwrap_err();
    assert_eq!(error.fault(), Fault::Url);
}
