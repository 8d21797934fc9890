use std::path::Path;

use super::load::load_from;
use super::origin::Origin;
use super::*;
use crate::cli::SettingsArgs;

fn with(
    args: &SettingsArgs,
    file: Option<&str>,
    environment: &[(&str, &str)],
) -> Result<(Settings, Vec<Loaded>), Vec<String>> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("anabranch.toml");
    if let Some(text) = file {
        std::fs::write(&path, text).unwrap();
    }
    let environment = environment
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    load_from(args, file.map(|_| Path::new(&path)), environment).map_err(|problems| {
        let shown = path.display().to_string();
        problems
            .into_iter()
            .map(|problem| problem.replace(&shown, "FILE"))
            .collect()
    })
}

fn origin_of(loaded: &[Loaded], name: &str) -> Origin {
    loaded.iter().find(|one| one.name == name).unwrap().origin.clone()
}

fn in_folder(folder: &str) -> StoreSettings {
    StoreSettings::Embedded {
        data_dir: folder.into(),
    }
}

#[test]
fn defaults_are_right() {
    let (settings, loaded) = with(&SettingsArgs::default(), None, &[]).unwrap();
    assert_eq!(settings.listen, "127.0.0.1:7600");
    assert_eq!(settings.store, in_folder("./anabranch-data"));
    assert!(!settings.insecure);
    assert_eq!(loaded.len(), KEYS.len());
    assert!(loaded.iter().all(|one| one.origin == Origin::Default));
}

#[test]
fn flags_win_over_the_environment_and_that_over_the_file() {
    let file = "[server]\nlisten = \"127.0.0.1:1\"\ninsecure = true\n[store.embedded]\ndata_dir = \"f\"\n";
    let environment = [
        ("ANABRANCH_SERVER__LISTEN", "127.0.0.1:2"),
        ("ANABRANCH_STORE__EMBEDDED__DATA_DIR", "e"),
        ("ANABRANCH_SERVER", "http://ignored"),
    ];
    let args = SettingsArgs {
        listen: Some("127.0.0.1:3".to_owned()),
        ..SettingsArgs::default()
    };
    let (settings, loaded) = with(&args, Some(file), &environment).unwrap();
    assert_eq!(settings.listen, "127.0.0.1:3");
    assert_eq!(settings.store, in_folder("e"));
    assert!(settings.insecure);
    assert_eq!(
        origin_of(&loaded, "server.listen"),
        Origin::Flag("--listen".to_owned())
    );
    assert_eq!(
        origin_of(&loaded, "store.embedded.data_dir"),
        Origin::Environment("ANABRANCH_STORE__EMBEDDED__DATA_DIR".to_owned())
    );
    assert!(matches!(origin_of(&loaded, "server.insecure"), Origin::File(_)));
}

#[test]
fn an_unknown_key_names_the_nearest() {
    let problems = with(&SettingsArgs::default(), Some("[server]\nlisen = \"x\"\n"), &[]).unwrap_err();
    assert_eq!(
        problems,
        ["FILE: there is no setting `server.lisen`; did you mean `server.listen`?"]
    );
    let problems = with(&SettingsArgs::default(), None, &[("ANABRANCH_STORE__KIN", "x")]).unwrap_err();
    assert_eq!(
        problems,
        ["ANABRANCH_STORE__KIN: there is no setting `store.kin`; did you mean `store.kind`?"]
    );
}

#[test]
fn everything_that_is_wrong_is_named_at_once() {
    let file = "[server]\nlisten = \"nowhere\"\ndrain_grace = \"soon\"\n[store]\nkind = \"oracle\"\n[bus]\nkind = \"nats\"\nkind_of = 1\n";
    let problems = with(&SettingsArgs::default(), Some(file), &[]).unwrap_err();
    assert_eq!(problems.len(), 5, "{problems:?}");
    assert!(problems[0].contains("no setting `bus.kind_of`"));
    assert!(
        problems.contains(&"bus.kind (from FILE): there is no bus `nats`; use embedded or kafka".to_owned())
    );
    assert!(
        problems
            .iter()
            .any(|problem| problem.starts_with("server.listen (from FILE): `nowhere` is not an address"))
    );
}

#[test]
fn a_file_that_does_not_parse_says_where() {
    let problems = with(&SettingsArgs::default(), Some("[server\n"), &[]).unwrap_err();
    assert!(problems[0].starts_with("FILE: "), "{problems:?}");
}

#[cfg(not(feature = "cluster"))]
#[test]
fn a_build_without_clusters_says_how_to_get_one() {
    let problems = with(
        &SettingsArgs::default(),
        Some("[store]\nkind = \"cassandra\"\n"),
        &[],
    )
    .unwrap_err();
    assert_eq!(
        problems,
        ["store.kind (from FILE): this build keeps events in a folder only; build with `--features cluster`"]
    );
}

#[cfg(not(feature = "cluster"))]
#[test]
fn kafka_is_refused_where_the_build_has_none() {
    let problems = with(&SettingsArgs::default(), Some("[bus]\nkind = \"kafka\"\n"), &[]).unwrap_err();
    assert_eq!(
        problems,
        ["bus.kind (from FILE): this build has no Kafka; build it with --features cluster, or use embedded"]
    );
}

#[cfg(feature = "cluster")]
mod cassandra {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_cluster_is_set_up_from_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let password_file = folder.path().join("password");
        std::fs::write(&password_file, "s3cret\n").unwrap();
        let file = format!(
            "[store]\nkind = \"cassandra\"\n[store.cassandra]\ncontact_points = \"a:9042, b:9042\"\n\
             local_datacenter = \"dc1\"\nconsistency = \"EACH_QUORUM\"\nusername = \"u\"\npassword_file = {password_file:?}\n\
             address_map = \"10.0.0.1=127.0.0.1:1\"\n[store.cassandra.tls]\nca_file = \"ca.pem\"\n\
             [bus]\nkind = \"kafka\"\n"
        );
        let (settings, loaded) = with(&SettingsArgs::default(), Some(&file), &[]).unwrap();
        let StoreSettings::Cassandra(cluster) = settings.store else {
            panic!("it is a cluster");
        };
        assert_eq!(cluster.contact_points, ["a:9042", "b:9042"]);
        assert_eq!(cluster.datacenter.as_deref(), Some("dc1"));
        assert_eq!(cluster.request_timeout, Duration::from_secs(5));
        assert_eq!(cluster.credentials.unwrap().password, "s3cret");
        assert_eq!(cluster.tls.unwrap().client, None);
        assert_eq!(cluster.address_map.len(), 1);
        assert!(loaded.iter().all(|one| !one.value.contains("s3cret")));
    }

    #[test]
    fn everything_that_is_wrong_of_a_cluster_is_named() {
        let file = "[store]\nkind = \"cassandra\"\n[store.cassandra]\ncontact_points = \"a\"\nkeyspace = \"A-b\"\n\
                    replication_factor = 0\nconsistency = \"ONE\"\nusername = \"u\"\naddress_map = \"x\"\n\
                    [store.cassandra.tls]\nkey_file = \"k\"\n";
        let problems = with(&SettingsArgs::default(), Some(file), &[]).unwrap_err();
        assert_eq!(problems.len(), 8, "{problems:#?}");
        assert!(
            problems
                .iter()
                .any(|problem| problem.contains("set bus.kind to kafka"))
        );
        assert!(
            problems
                .iter()
                .any(|problem| problem.contains("one replica may not have what was acked"))
        );
    }
}

#[cfg(feature = "cluster")]
#[test]
fn a_list_is_what_its_parts_are_with_commas_between() {
    let file = "[store]\nkind = \"cassandra\"\n[store.cassandra]\ncontact_points = [\"127.0.0.1:9042\", \"127.0.0.2:9042\"]\n\
                [bus]\nkind = \"kafka\"\n[bus.kafka]\nbrokers = [\"a:9092\"]\n";
    let (settings, loaded) = with(&SettingsArgs::default(), Some(file), &[]).unwrap();
    let points = loaded
        .iter()
        .find(|one| one.name == "store.cassandra.contact_points");
    assert_eq!(points.unwrap().value, "127.0.0.1:9042,127.0.0.2:9042");
    let Bus::Kafka(kafka) = settings.bus else { panic!() };
    assert_eq!(kafka.connection.brokers, "a:9092");
}

#[test]
fn what_is_no_text_is_named() {
    let file = "[server]\nlisten = [[\"a\"]]\n[store.embedded]\ndata_dir = { a = 1 }\n";
    let problems = with(&SettingsArgs::default(), Some(file), &[]).unwrap_err();
    assert!(
        problems.iter().any(
            |problem| problem.starts_with("server.listen (from FILE): it is a table or a list of lists;")
        )
    );
}

#[cfg(feature = "cluster")]
#[test]
fn what_is_set_of_kafka_is_checked_when_it_is_chosen() {
    let file = |kind: &str| {
        format!("[bus]\nkind = \"{kind}\"\n[bus.kafka]\ntopic = \"a b\"\npartitions = \"many\"\n")
    };
    with(&SettingsArgs::default(), Some(&file("embedded")), &[]).unwrap();
    let problems = with(&SettingsArgs::default(), Some(&file("kafka")), &[]).unwrap_err();
    assert_eq!(problems.len(), 2, "{problems:?}");
    assert_eq!(
        problems[0],
        "bus.kafka.partitions (from FILE): `many` is not a number up to 65535"
    );
    assert!(problems[1].starts_with("bus.kafka.topic (from FILE): `a b` is no name for a topic"));
    let environment = [
        ("ANABRANCH_BUS__KIND", "kafka"),
        ("ANABRANCH_BUS__KAFKA__BROKERS", "a:9092,b:9092"),
        ("ANABRANCH_BUS__KAFKA__REPLICATION", "3"),
    ];
    let (settings, _) = with(&SettingsArgs::default(), None, &environment).unwrap();
    let Bus::Kafka(kafka) = settings.bus else {
        panic!("another bus")
    };
    assert_eq!(kafka.connection.brokers, "a:9092,b:9092");
    assert_eq!((kafka.partitions, kafka.replication), (12, Some(3)));
}
