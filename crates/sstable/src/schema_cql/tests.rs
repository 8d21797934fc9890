use super::*;

fn parsed(text: &str) -> Result<SchemaCql> {
    let mut schema = SchemaCql::default();
    schema.add("some/schema.cql", text)?;
    Ok(schema)
}

fn names(columns: &[Column]) -> Vec<String> {
    columns.iter().map(Column::label).collect()
}

const TABLE: &str = r#"
    CREATE TYPE IF NOT EXISTS ks.point (x int, label text); -- a comment
    CREATE TABLE IF NOT EXISTS ks."T" ("Id" text, B int, c timestamp, s text static, gone int, again int,
        m map<text, frozen<list<point>>>, v vector<float, 3> MASKED WITH system.mask_inner(1, null),
        PRIMARY KEY (("Id", b), c)) WITH ID = 1-2 AND comment = 'a ; in -- here' AND CLUSTERING ORDER BY (c DESC);
    ALTER TABLE ks."T" DROP gone USING TIMESTAMP 17;
    ALTER TABLE ks."T" DROP again USING TIMESTAMP -18;
    ALTER TABLE ks."T" ADD again int;
    CREATE INDEX x ON ks."T" (m);"#;

const VIEWS: &str = r#"
    CREATE MATERIALIZED VIEW ks.moved AS SELECT "Id", b, c, again FROM ks."T"
        WHERE "Id" IS NOT NULL AND b IS NOT NULL AND c IS NOT NULL AND again IS NOT NULL
        PRIMARY KEY ((again), "Id", b, c) WITH comment = '';
    CREATE MATERIALIZED VIEW ks.turned AS SELECT * FROM ks."T" WHERE c IS NOT NULL PRIMARY KEY ((c, b), "Id");"#;

#[test]
fn keys_types_and_dropped_columns_are_read() {
    let table = parsed(TABLE).unwrap().table("ks", "T").unwrap();
    assert_eq!(names(&table.partition), ["Id", "b"]);
    assert_eq!(names(&table.clustering), ["c"]);
    assert_eq!(names(&table.statics), ["s"]);
    assert_eq!(names(&table.regulars), ["m", "v", "again"]);
    assert_eq!(
        table.regulars[0].cql_type.to_string(),
        "map<text, frozen<list<ks.point>>>"
    );
    assert_eq!(table.regulars[1].cql_type.to_string(), "vector<float, 3>");
    let dropped = [("gone", 17), ("again", -18)].map(|(name, at)| (Bytes::from(name), at));
    assert_eq!(table.rules.dropped, BTreeMap::from(dropped));
    assert!(!table.rules.needs_marker);
}

#[test]
fn a_key_in_the_column_list_is_read() {
    let table = parsed("CREATE TABLE ks.t (id int PRIMARY KEY, v text);").unwrap();
    let table = table.table("ks", "t").unwrap();
    assert_eq!(
        (names(&table.partition), names(&table.regulars)),
        (vec!["id".into()], vec!["v".into()])
    );
}

#[test]
fn rows_of_a_view_with_a_key_column_of_its_own_need_a_marker() {
    let schema = parsed(&format!("{TABLE}{VIEWS}")).unwrap();
    let moved = schema.table("ks", "moved").unwrap();
    assert!(moved.rules.needs_marker);
    assert_eq!(names(&moved.partition), ["again"]);
    assert_eq!(names(&moved.clustering), ["Id", "b", "c"]);
    assert_eq!((names(&moved.statics), names(&moved.regulars)), (vec![], vec![]));
    let turned = schema.table("ks", "turned").unwrap();
    assert!(!turned.rules.needs_marker);
    assert_eq!(names(&turned.partition), ["c", "b"]);
    assert_eq!(names(&turned.regulars), ["m", "v", "again"]);
}

#[test]
fn a_view_without_its_table_is_not_guessed_at() {
    let error = parsed(VIEWS).unwrap().table("ks", "turned").unwrap_err();
    assert!(error.to_string().contains("does not describe ks.T"), "{error}");
}

#[test]
fn what_is_no_schema_is_named() {
    for text in [
        "",
        "CREATE TABLE ks.t (a 'some.Type', PRIMARY KEY (a));",
        "CREATE TABLE ks.t (a int, PRIMARY KEY (b));",
        "CREATE TABLE ks.t (a int);",
        "CREATE TABLE ks.t (a map<int>, PRIMARY KEY (a));",
        "CREATE TABLE ks.t (a int",
        "CREATE TABLE ks.t (a int PRIMARY KEY); ALTER TABLE ks.t DROP b USING TIMESTAMP 17",
        "ALTER TABLE ks.t DROP a USING TIMESTAMP 1;",
        "CREATE TABLE ks.t (a int PRIMARY KEY, b int); ALTER TABLE ks.t DROP b;",
        "CREATE MATERIALIZED VIEW ks.t AS SELECT a FROM ks.u;",
    ] {
        let error = parsed(text)
            .and_then(|schema| schema.table("ks", "t"))
            .unwrap_err();
        let text_of = error.to_string();
        assert!(
            text_of.starts_with("some/schema.cql is not the schema"),
            "{text}: {text_of}"
        );
    }
    let deep = format!("CREATE TABLE ks.t (a {}int);", "frozen<".repeat(100_000));
    parsed(&deep).unwrap_err();
}

#[test]
fn a_type_that_is_left_out_has_the_fields_of_the_files() {
    let text = "CREATE TABLE ks.t (a int PRIMARY KEY, b frozen<tuple<int, frozen<u>>>);";
    let mut declared = parsed(text)
        .unwrap()
        .table("ks", "t")
        .unwrap()
        .regulars
        .remove(0)
        .cql_type;
    let stored = crate::marshal::parse("TupleType(Int32Type,UserType(ks,75,61:Int32Type))").unwrap();
    assert!(declared.is_like(&stored));
    declared.widen(&stored);
    let CqlType::Tuple(parts) = declared.bare() else {
        panic!("{declared} is no tuple")
    };
    let CqlType::Udt(udt) = parts[1].bare() else {
        panic!("{declared} has no udt")
    };
    assert_eq!(udt.fields, [("a".to_owned(), CqlType::Int)]);
}

#[test]
fn what_other_statements_say_does_not_matter() {
    let text = "CREATE FUNCTION ks.f (a int) RETURNS NULL ON NULL INPUT RETURNS int LANGUAGE java AS $$ return ';'; $$;
        CREATE KEYSPACE ks WITH replication = {'class': 'SimpleStrategy'}; ALTER TABLE ks.u WITH comment = '';
        CREATE TABLE ks.other (a 'some.Type', PRIMARY KEY (a)); CREATE TABLE ks.t (a int PRIMARY KEY);";
    let schema = parsed(text).unwrap();
    assert_eq!(schema.names().collect::<Vec<_>>(), [("ks", "other"), ("ks", "t")]);
    schema.table("ks", "t").unwrap();
}
