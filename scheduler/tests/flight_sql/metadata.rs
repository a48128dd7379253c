//! What tools ask first.

use arrow_flight::IpcMessage;
use arrow_flight::sql::{
    CommandGetCatalogs, CommandGetCrossReference, CommandGetDbSchemas, CommandGetExportedKeys, CommandGetImportedKeys,
    CommandGetPrimaryKeys, CommandGetSqlInfo, CommandGetTableTypes, CommandGetTables, CommandGetXdbcTypeInfo, SqlInfo,
};
use datafusion::arrow::array::{AsArray, RecordBatch};
use datafusion::arrow::datatypes::{DataType, Schema, UInt32Type};

use super::{Client, scheduler};

fn column(batches: &[RecordBatch], index: usize) -> Vec<String> {
    let values = |batch: &RecordBatch| batch.column(index).as_string::<i32>().iter().flatten().map(str::to_owned).collect::<Vec<_>>();
    batches.iter().flat_map(values).collect()
}

#[tokio::test]
async fn every_sql_info_key_is_answered_and_any_can_be_asked_for() {
    let scheduler = scheduler(|_| {}).await;
    let client = Client::keyless(&scheduler);
    let all = client.fetch(&client.info(CommandGetSqlInfo { info: vec![] }).await.unwrap()).await.unwrap();
    let keys: Vec<_> = all.iter().flat_map(|batch| batch.column(0).as_primitive::<UInt32Type>().values().to_vec()).collect();
    let expected = (0..=11).chain(100..=101).chain(500..=576).collect::<Vec<_>>();
    assert_eq!(keys, expected);
    let DataType::Union(fields, _) = all[0].schema().field(1).data_type().clone() else { panic!("the value is a union") };
    assert_eq!(fields.iter().nth(3).map(|(id, field)| (id, field.name().clone())), Some((3, "int32_bitmask".into())));

    let asked = CommandGetSqlInfo { info: vec![SqlInfo::FlightSqlServerTransaction as u32] };
    let one = client.fetch(&client.info(asked).await.unwrap()).await.unwrap();
    assert_eq!(one.iter().map(RecordBatch::num_rows).sum::<usize>(), 1);
}

#[tokio::test]
async fn types_are_listed_and_can_be_filtered() {
    let scheduler = scheduler(|_| {}).await;
    let client = Client::keyless(&scheduler);
    let all = client.fetch(&client.info(CommandGetXdbcTypeInfo { data_type: None }).await.unwrap()).await.unwrap();
    let names = column(&all, 0);
    for name in ["BIGINT", "VARCHAR", "DECIMAL", "DATE", "TIMESTAMP", "BOOLEAN"] {
        assert!(names.iter().any(|found| found == name), "{name} is not in {names:?}");
    }
    let varchar = CommandGetXdbcTypeInfo { data_type: Some(12) };
    assert_eq!(column(&client.fetch(&client.info(varchar).await.unwrap()).await.unwrap(), 0), ["VARCHAR"]);
}

#[tokio::test]
async fn catalogs_schemas_and_tables_are_listed_with_patterns() {
    let scheduler = scheduler(|_| {}).await;
    let client = Client::keyless(&scheduler);
    let catalogs = client.fetch(&client.info(CommandGetCatalogs {}).await.unwrap()).await.unwrap();
    assert_eq!(column(&catalogs, 0), ["tpcds", "tpch", "volley"]);

    let schemas = CommandGetDbSchemas { catalog: Some("volley".into()), db_schema_filter_pattern: None };
    assert_eq!(column(&client.fetch(&client.info(schemas).await.unwrap()).await.unwrap(), 1), ["public"]);

    let mut tables = CommandGetTables {
        catalog: Some("tpch".into()),
        db_schema_filter_pattern: Some("sf1".into()),
        table_name_filter_pattern: Some("l%m".into()),
        table_types: vec!["TABLE".into()],
        include_schema: false,
    };
    let found = client.fetch(&client.info(tables.clone()).await.unwrap()).await.unwrap();
    assert_eq!(found[0].num_columns(), 4);
    assert_eq!(column(&found, 2), ["lineitem"]);

    tables.include_schema = true;
    let found = client.fetch(&client.info(tables.clone()).await.unwrap()).await.unwrap();
    let encoded = found[0].column(4).as_binary::<i32>().value(0).to_vec();
    let columns: Schema = IpcMessage(encoded.into()).try_into().unwrap();
    assert_eq!(columns.field(0).name(), "l_orderkey");
    assert!(columns.fields().iter().all(|field| !matches!(field.data_type(), DataType::Utf8View)), "views are for us alone");

    tables.catalog = Some(String::new());
    assert_eq!(column(&client.fetch(&client.info(tables).await.unwrap()).await.unwrap(), 2), [""; 0]);
    let types = client.fetch(&client.info(CommandGetTableTypes {}).await.unwrap()).await.unwrap();
    assert!(column(&types, 0).contains(&"TABLE".to_owned()));
}

#[tokio::test]
async fn key_commands_answer_with_nothing_rather_than_an_error() {
    let scheduler = scheduler(|_| {}).await;
    let client = Client::keyless(&scheduler);
    let (catalog, db_schema, table) = (None, None, "t".to_owned());
    let primary = CommandGetPrimaryKeys { catalog: catalog.clone(), db_schema: db_schema.clone(), table: table.clone() };
    let exported = CommandGetExportedKeys { catalog: catalog.clone(), db_schema: db_schema.clone(), table: table.clone() };
    let imported = CommandGetImportedKeys { catalog, db_schema, table };
    let cross = CommandGetCrossReference { pk_table: "t".into(), fk_table: "u".into(), ..Default::default() };
    let infos = [
        client.info(primary).await.unwrap(),
        client.info(exported).await.unwrap(),
        client.info(imported).await.unwrap(),
        client.info(cross).await.unwrap(),
    ];
    for info in infos {
        let rows: usize = client.fetch(&info).await.unwrap().iter().map(RecordBatch::num_rows).sum();
        assert_eq!(rows, 0);
    }
}
