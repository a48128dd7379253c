//! One schema, wherever a client may ask for it.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use arrow_flight::sql::{CommandPreparedStatementQuery, CommandStatementQuery, ProstMessageExt};
use arrow_flight::{FlightDescriptor, FlightInfo, IpcMessage};
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::{DataType, Field, Fields, IntervalUnit, Schema, TimeUnit};
use datafusion::parquet::arrow::ArrowWriter;
use prost::Message;

use super::executor::{FakeExecutor, Play};
use super::statements::{prepare, schema};
use super::{Client, scheduler};

/// Every type that a Parquet file can keep.
fn all_types() -> Vec<DataType> {
    let item = |data_type| Arc::new(Field::new("item", data_type, true));
    let entries = Fields::from(vec![Field::new("key", DataType::Utf8, false), Field::new("value", DataType::Int32, true)]);
    let mut types = vec![
        DataType::Boolean,
        DataType::Int8,
        DataType::Int16,
        DataType::Int32,
        DataType::Int64,
        DataType::UInt8,
        DataType::UInt16,
        DataType::UInt32,
        DataType::UInt64,
        DataType::Float16,
        DataType::Float32,
        DataType::Float64,
        DataType::Utf8,
        DataType::LargeUtf8,
        DataType::Utf8View,
        DataType::Binary,
        DataType::LargeBinary,
        DataType::BinaryView,
        DataType::FixedSizeBinary(4),
        DataType::Date32,
        DataType::Date64,
        DataType::Time32(TimeUnit::Second),
        DataType::Time32(TimeUnit::Millisecond),
        DataType::Time64(TimeUnit::Microsecond),
        DataType::Time64(TimeUnit::Nanosecond),
        DataType::Decimal32(7, 2),
        DataType::Decimal64(15, 2),
        DataType::Decimal128(10, 2),
        DataType::Decimal256(50, 3),
        DataType::Interval(IntervalUnit::YearMonth),
        DataType::List(item(DataType::Int64)),
        DataType::LargeList(item(DataType::Utf8View)),
        DataType::FixedSizeList(item(DataType::Float32), 2),
        DataType::Struct(Fields::from(vec![Field::new("a", DataType::Utf8View, false), Field::new("b", DataType::Int32, true)])),
        DataType::Map(Arc::new(Field::new("entries", DataType::Struct(entries), false)), false),
        DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8)),
    ];
    for unit in [TimeUnit::Second, TimeUnit::Millisecond, TimeUnit::Microsecond, TimeUnit::Nanosecond] {
        types.push(DataType::Timestamp(unit, None));
        types.push(DataType::Timestamp(unit, Some("Europe/Berlin".into())));
        types.push(DataType::Duration(unit));
    }
    types
}

/// A file without rows, with a nullable and a required column of each type.
fn write_types(path: &Path) -> usize {
    let fields: Vec<Field> = all_types()
        .into_iter()
        .enumerate()
        .flat_map(|(index, data_type)| {
            [Field::new(format!("n{index}"), data_type.clone(), true), Field::new(format!("r{index}"), data_type, false)]
        })
        .collect();
    let columns = fields.len();
    let schema = Arc::new(Schema::new(fields));
    let mut writer = ArrowWriter::try_new(File::create(path).unwrap(), Arc::clone(&schema), None).unwrap();
    writer.write(&RecordBatch::new_empty(schema)).unwrap();
    writer.close().unwrap();
    columns
}

/// The schema of the first frame of a result.
async fn first_frame(client: &Client, info: &FlightInfo) -> Schema {
    let request = client.request(info.endpoint[0].ticket.clone().unwrap());
    let mut frames = client.service.clone().do_get(request).await.unwrap().into_inner();
    let first = frames.message().await.unwrap().expect("a first frame");
    (&first).try_into().unwrap()
}

async fn asked_for(client: &Client, command: impl ProstMessageExt) -> Schema {
    let descriptor = FlightDescriptor::new_cmd(command.as_any().encode_to_vec());
    let result = client.service.clone().get_schema(client.request(descriptor)).await.unwrap().into_inner();
    IpcMessage(result.schema).try_into().unwrap()
}

#[tokio::test]
async fn all_answers_have_the_same_schema_for_every_type() {
    let folder = tempfile::tempdir().unwrap();
    let columns = write_types(&folder.path().join("types.parquet"));
    let scheduler = scheduler(|_| {}).await;
    let _executor = FakeExecutor::start(&scheduler, "e1", |_| Play::Hang).await;
    let client = Client::with_cookie(&scheduler, "types");
    let location = folder.path().join("types.parquet").display().to_string();
    client.query(&format!("CREATE EXTERNAL TABLE types STORED AS PARQUET LOCATION '{location}'")).await.unwrap();
    for views in [false, true] {
        client.query(&format!("SET volley.result_views = {views}")).await.unwrap();
        let sql = "SELECT * FROM types";
        let info = client.query(sql).await.unwrap();
        let announced = schema(&info.schema);
        assert_eq!(announced.fields().len(), columns);
        assert_eq!(first_frame(&client, &info).await, announced, "views {views}: the first frame");
        let statement = CommandStatementQuery { query: sql.into(), transaction_id: None };
        assert_eq!(asked_for(&client, statement).await, announced, "views {views}: GetSchema");

        let prepared = prepare(&client, sql).await.unwrap();
        assert_eq!(schema(&prepared.dataset_schema), announced, "views {views}: the prepared statement");
        let handle = || CommandPreparedStatementQuery { prepared_statement_handle: prepared.prepared_statement_handle.clone() };
        assert_eq!(asked_for(&client, handle()).await, announced, "views {views}: GetSchema of the prepared statement");
        let info = client.info(handle()).await.unwrap();
        assert_eq!(schema(&info.schema), announced, "views {views}: the prepared statement's FlightInfo");
        assert_eq!(first_frame(&client, &info).await, announced, "views {views}: the prepared statement's first frame");

        let has_views = announced.fields().iter().any(|field| matches!(field.data_type(), DataType::Utf8View | DataType::BinaryView));
        assert_eq!(has_views, views, "views are kept where they are asked for");
        for pair in announced.fields().chunks(2) {
            assert!(pair[0].is_nullable() && !pair[1].is_nullable(), "{} and {} keep what may be null", pair[0], pair[1]);
        }
    }
}
