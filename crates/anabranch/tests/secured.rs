//! A Cassandra that asks for certificates, both ways, for a role and its password, and gives that role no more than
//! operations.md says: a server, a planner and a splitter work on it, and what is wrong is said at the start.
#![cfg(feature = "cluster")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a test fails by panicking, reports on stdout, and runs real processes in real time"
)]

mod harness;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anabranch_proto::admin::v1 as admin;
use anabranch_proto::timeseries::v1 as wire;
use harness::Server;
use harness::cluster::Cluster;
use harness::fleet::Fleet;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use scylla::client::session::{Session, TlsContext};
use scylla::client::session_builder::SessionBuilder;
use wire::response_context::ServedFrom;

const NAMESPACE: &str = "secured";
const ROLE: &str = "anabranch";
const PASSWORD: &str = "it's a \"secret\"";
const EVENTS: i64 = 60;
const DAY_MICROS: i64 = 86_400_000_000;
const SPLIT_WITHIN: Duration = Duration::from_secs(120);

/// An authority, and what it has signed, as PEM files in a folder.
struct Authority {
    folder: PathBuf,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new(folder: &Path) -> Self {
        fs::create_dir_all(folder).unwrap();
        let mut of = CertificateParams::new(Vec::<String>::new()).unwrap();
        of.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = of.self_signed(&key).unwrap();
        fs::write(folder.join("ca.pem"), certificate.pem()).unwrap();
        Self {
            folder: folder.to_path_buf(),
            issuer: Issuer::new(of, key),
        }
    }

    fn ca_file(&self) -> PathBuf {
        self.folder.join("ca.pem")
    }

    /// Signs a certificate for a name or an address: the files of the certificate, of its key, and of both.
    fn sign(&self, name: &str) -> [PathBuf; 3] {
        let key = KeyPair::generate().unwrap();
        let of = CertificateParams::new([name.to_owned()]).unwrap();
        let certificate = of.signed_by(&key, &self.issuer).unwrap().pem();
        let key = key.serialize_pem();
        let contents = [certificate.clone(), key.clone(), key + &certificate];
        let files = ["certificate", "key", "both"].map(|part| self.folder.join(format!("{name}-{part}.pem")));
        for (file, content) in files.iter().zip(contents) {
            fs::write(file, content).unwrap();
        }
        files
    }
}

/// The settings of a node that takes nobody whom the authority does not know, and asks for a role.
fn node_settings(authority: &Authority, address: &str) -> String {
    let [_, _, both] = authority.sign(address);
    format!(
        "authenticator: PasswordAuthenticator\nauthorizer: CassandraAuthorizer\nrole_manager: CassandraRoleManager\n\
         permissions_validity: 0s\nclient_encryption_options:\n  enabled: true\n  optional: false\n  require_client_auth: true\n  \
         keystore: {}\n  truststore: {}\n  ssl_context_factory:\n    \
         class_name: org.apache.cassandra.security.PEMBasedSslContextFactory\n",
        both.display(),
        authority.ca_file().display()
    )
}

/// A certificate with its key, and whom to believe.
#[derive(Clone)]
struct Papers {
    ca_file: PathBuf,
    certificate_file: PathBuf,
    key_file: PathBuf,
}

impl Papers {
    fn of(authority: &Authority, name: &str) -> Self {
        let [certificate_file, key_file, _] = authority.sign(name);
        Self {
            ca_file: authority.ca_file(),
            certificate_file,
            key_file,
        }
    }

    fn settings(&self) -> String {
        format!(
            "[store.cassandra.tls]\nca_file = {:?}\ncertificate_file = {:?}\nkey_file = {:?}\n",
            self.ca_file, self.certificate_file, self.key_file
        )
    }

    /// A session past the product, as the role that every new cluster has.
    async fn session(&self, point: &str) -> Session {
        let mut roots = rustls::RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_file(&self.ca_file).unwrap())
            .unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_client_auth_cert(
                vec![CertificateDer::from_pem_file(&self.certificate_file).unwrap()],
                PrivateKeyDer::from_pem_file(&self.key_file).unwrap(),
            )
            .unwrap();
        let config = Arc::new(config);
        let since = Instant::now();
        // That role is made a moment after the node serves.
        loop {
            let builder = SessionBuilder::new()
                .known_node(point)
                .user("cassandra", "cassandra")
                .tls_context(Some(TlsContext::Rustls023(config.clone())));
            match builder.build().await {
                Ok(session) => return session,
                Err(error) => assert!(since.elapsed() < Duration::from_secs(60), "{error}"),
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }
}

fn credentials(folder: &Path, password: &str) -> String {
    let file = folder.join("password");
    fs::write(&file, format!("{password}\n")).unwrap();
    format!("username = {ROLE:?}\npassword_file = {file:?}\n")
}

#[test]
fn a_fleet_works_with_certificates_a_password_and_the_least_rights() {
    if Fleet::points("secured").is_none() {
        return;
    }
    let kafka = std::env::var("ANABRANCH_TEST_KAFKA").unwrap();
    let place = harness::folder("secured");
    let authority = Authority::new(&place.path().join("authority"));
    let cluster = Cluster::start_one(place.path(), |address| node_settings(&authority, address)).unwrap();
    let point = cluster.cassandra();
    let papers = Papers::of(&authority, "client");
    let runtime = harness::runtime();
    let session = runtime.block_on(papers.session(&point));
    let operator = Operator { session, runtime };
    let password = PASSWORD.replace('\'', "''");
    operator.run(&format!(
        "CREATE ROLE {ROLE} WITH PASSWORD = '{password}' AND LOGIN = true"
    ));
    wrong_papers_are_named(place.path(), &point, &kafka, &papers);

    let fleet = Fleet::on(place.path(), &point, &kafka);
    fleet.set(&credentials(place.path(), PASSWORD), &papers.settings());
    let keyspace = fleet.keyspace();
    operator.make(&fleet.try_start("serve").err().unwrap(), &keyspace);
    for right in ["CREATE", "SELECT", "MODIFY"] {
        operator.run(&format!("GRANT {right} ON KEYSPACE {keyspace} TO {ROLE}"));
    }
    let server = fleet.start("serve");
    let events = events();
    let refused = operator.runtime.block_on(async {
        create(&server).await;
        harness::write(&server, NAMESPACE, events.clone())
            .await
            .unwrap_err()
    });
    let of_events = format!("{keyspace}_{NAMESPACE}");
    operator.make(refused.message(), &of_events);
    for right in ["CREATE", "DROP", "SELECT", "MODIFY"] {
        operator.run(&format!("GRANT {right} ON KEYSPACE {of_events} TO {ROLE}"));
    }
    let written = operator
        .runtime
        .block_on(harness::write(&server, NAMESPACE, events.clone()));
    written.unwrap();
    let workers = fleet.workers();
    operator.runtime.block_on(is_split(&server, &events));
    workers.stop();
    server.assert_no_panic();
    assert!(server.stop().success());
}

/// The operator of the cluster, who may do anything.
struct Operator {
    session: Session,
    runtime: tokio::runtime::Runtime,
}

impl Operator {
    fn run(&self, statement: &str) {
        let done = self.runtime.block_on(self.session.query_unpaged(statement, ()));
        done.unwrap_or_else(|error| panic!("{statement}: {error}"));
    }

    /// Makes the keyspace that somebody without the right to has been refused, by the statement that the error names.
    fn make(&self, refusal: &str, keyspace: &str) {
        let named = refusal
            .split_once("let one that has it run: ")
            .and_then(|(_, after)| Some(&after[..=after.find('}')?]));
        let statement = named.unwrap_or_else(|| panic!("no statement in: {refusal}"));
        assert!(
            statement.starts_with(&format!("CREATE KEYSPACE IF NOT EXISTS {keyspace} ")),
            "{statement}"
        );
        self.run(statement);
    }
}

/// Each way in which the start may be refused says what is to be set.
fn wrong_papers_are_named(place: &Path, point: &str, kafka: &str, papers: &Papers) {
    let stranger = Authority::new(&place.join("stranger"));
    let other_ca = Papers {
        ca_file: stranger.ca_file(),
        ..papers.clone()
    };
    let right = credentials(place, PASSWORD);
    let ca_alone = format!("[store.cassandra.tls]\nca_file = {:?}\n", papers.ca_file);
    let cases = [
        (
            "no TLS",
            right.clone(),
            String::new(),
            "store.cassandra.tls.ca_file",
        ),
        (
            "another authority",
            right.clone(),
            other_ca.settings(),
            "invalid peer certificate",
        ),
        (
            "no certificate of ours",
            right,
            ca_alone,
            "asks for a certificate of ours (store.cassandra.tls.certificate_file",
        ),
        (
            "no role",
            String::new(),
            papers.settings(),
            "store.cassandra.username",
        ),
        (
            "a wrong password",
            credentials(&place.join("stranger"), "guessed"),
            papers.settings(),
            "store.cassandra.password_file",
        ),
    ];
    for (what, in_table, tables, named) in cases {
        let folder = place.join(what.replace(' ', "-"));
        fs::create_dir_all(&folder).unwrap();
        let fleet = Fleet::on(&folder, point, kafka);
        fleet.set(&in_table, &tables);
        let why = fleet.try_start("serve").err();
        let why = why.unwrap_or_else(|| panic!("{what}: it starts"));
        println!("{what}: {why}\n");
        assert!(why.contains("exit status: 5"), "{what}: {why}");
        assert!(why.contains(named), "{what}: {named} is not in: {why}");
        assert!(
            !why.contains(PASSWORD) && !why.contains("guessed"),
            "{what}: {why}"
        );
    }
}

async fn create(server: &Server) {
    let namespace = harness::split_namespace(NAMESPACE, 4 << 10, 2 << 10);
    harness::create(&mut server.admin().await, namespace).await;
}

/// A wide partition, in a time bucket that has ended.
fn events() -> Vec<wire::EventRecord> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let oldest = i64::try_from(now.as_micros()).unwrap() / DAY_MICROS * DAY_MICROS - 2 * DAY_MICROS;
    (0..EVENTS)
        .map(|n| harness::event("id", harness::timestamp(oldest + n), n))
        .collect()
}

/// Reads the partition until it comes from the copy.
async fn is_split(server: &Server, events: &[wire::EventRecord]) {
    // Their bucket alone: of others there is no copy.
    let interval = wire::TimeInterval {
        start: events[0].event_time,
        end: events[0]
            .event_time
            .as_ref()
            .map(|start| harness::timestamp(harness::micros(start) + DAY_MICROS)),
    };
    let seal = admin::SealTimeSlicesRequest {
        namespace: NAMESPACE.to_owned(),
        before: interval.end,
    };
    server.admin().await.seal_time_slices(seal).await.unwrap();
    let mut client = server.events().await;
    let since = Instant::now();
    loop {
        let request = wire::ReadEventRecordsRequest {
            namespace: NAMESPACE.to_owned(),
            time_series_id: "id".to_owned(),
            time_interval: Some(interval),
            direction: wire::Direction::Ascending.into(),
            ..wire::ReadEventRecordsRequest::default()
        };
        let page = client.read_event_records(request).await.unwrap().into_inner();
        assert_eq!(page.records, events);
        let from = page
            .response_context
            .first()
            .map(wire::ResponseContext::served_from);
        if from == Some(ServedFrom::Targets) {
            println!("split and served after {:.1?}", since.elapsed());
            return;
        }
        assert!(since.elapsed() < SPLIT_WITHIN, "it is never split: {from:?}");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}
