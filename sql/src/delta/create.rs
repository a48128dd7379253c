//! A new table: the first entry of its log.

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use datafusion::error::{DataFusionError, Result};
use deltalake_core::kernel::StructType;
use deltalake_core::kernel::engine::arrow_conversion::TryIntoKernel;
use deltalake_core::operations::create::CreateBuilder;
use deltalake_core::protocol::SaveMode;

use super::delta_error;
use super::log::DeltaLog;

/// Makes a table without rows; nothing happens where there is one.
pub(crate) async fn create(log: &DeltaLog, columns: &Schema, partition_by: &[String]) -> Result<()> {
    let fields = columns.fields().iter().map(|field| stored(field)).collect::<Result<Vec<_>>>()?;
    let columns: StructType = (&Schema::new(fields)).try_into_kernel()?;
    let builder = CreateBuilder::new()
        .with_log_store(Arc::clone(log.store()))
        .with_save_mode(SaveMode::Ignore)
        .with_columns(columns.fields().cloned())
        .with_partition_columns(partition_by.to_vec());
    builder.await.map_err(delta_error)?;
    Ok(())
}

/// A column as the format has it: its times are in microseconds, and it knows no unsigned numbers.
fn stored(field: &Field) -> Result<Field> {
    let data_type = match field.data_type() {
        DataType::Timestamp(_, zone) => DataType::Timestamp(TimeUnit::Microsecond, zone.as_ref().map(|_| "UTC".into())),
        DataType::Utf8View | DataType::LargeUtf8 => DataType::Utf8,
        DataType::BinaryView | DataType::LargeBinary => DataType::Binary,
        DataType::UInt8 | DataType::UInt16 | DataType::UInt32 | DataType::UInt64 => {
            let (name, data_type) = (field.name(), field.data_type());
            return Err(DataFusionError::Plan(format!(
                "a Delta Lake table can't hold column '{name}' of type {data_type}: use a signed type"
            )));
        }
        other => other.clone(),
    };
    Ok(field.clone().with_data_type(data_type))
}
