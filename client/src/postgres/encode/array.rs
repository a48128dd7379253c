//! Lists as one-dimensional arrays.

use bytes::{BufMut, BytesMut};
use datafusion::arrow::array::{Array, ArrayRef, ListArray};
use datafusion::arrow::buffer::OffsetBuffer;

use super::{Put, downcast, scalar};
use crate::postgres::error::Refusal;
use crate::postgres::types::{Format, pg_type};

pub(super) fn writer(array: &ArrayRef, format: Format) -> Result<Put, Refusal> {
    let lists: ListArray = downcast(array)?;
    let items = ArrayRef::clone(lists.values());
    let list = List { put: scalar::writer(&items, format)?, offsets: lists.offsets().clone(), items };
    Ok(match format {
        Format::Text => Box::new(move |row, out| list.text(row, out)),
        Format::Binary => Box::new(move |row, out| list.binary(row, out)),
    })
}

struct List {
    items: ArrayRef,
    offsets: OffsetBuffer<i32>,
    put: Put,
}

impl List {
    fn range(&self, row: usize) -> std::ops::Range<usize> {
        self.offsets[row] as usize..self.offsets[row + 1] as usize
    }

    fn is_null(&self, index: usize) -> bool {
        self.items.is_null(index) || *self.items.data_type() == datafusion::arrow::datatypes::DataType::Null
    }

    /// `{1,NULL,"a b"}`.
    fn text(&self, row: usize, out: &mut BytesMut) -> Result<(), Refusal> {
        out.put_u8(b'{');
        let mut item = BytesMut::new();
        for (place, index) in self.range(row).enumerate() {
            if place > 0 {
                out.put_u8(b',');
            }
            if self.is_null(index) {
                out.put_slice(b"NULL");
                continue;
            }
            item.clear();
            (self.put)(index, &mut item)?;
            put_quoted(&item, out);
        }
        out.put_u8(b'}');
        Ok(())
    }

    fn binary(&self, row: usize, out: &mut BytesMut) -> Result<(), Refusal> {
        let range = self.range(row);
        out.put_i32(i32::from(!range.is_empty()));
        out.put_i32(i32::from(range.clone().any(|index| self.is_null(index))));
        out.put_u32(pg_type(self.items.data_type()).oid());
        if range.is_empty() {
            return Ok(());
        }
        // Its length, and the number of its first element.
        out.put_i32(range.len() as i32);
        out.put_i32(1);
        for index in range {
            let at = out.len();
            out.put_i32(-1);
            if !self.is_null(index) {
                (self.put)(index, out)?;
                let length = (out.len() - at - 4) as i32;
                out[at..at + 4].copy_from_slice(&length.to_be_bytes());
            }
        }
        Ok(())
    }
}

/// An element, in quotes where it could be taken for something else.
fn put_quoted(item: &[u8], out: &mut BytesMut) {
    let is_special = |byte: &u8| matches!(byte, b'"' | b'{' | b'}' | b',' | b'\\') || byte.is_ascii_whitespace();
    if !item.is_empty() && !item.eq_ignore_ascii_case(b"null") && !item.iter().any(is_special) {
        out.put_slice(item);
        return;
    }
    out.put_u8(b'"');
    for byte in item {
        if matches!(byte, b'"' | b'\\') {
            out.put_u8(b'\\');
        }
        out.put_u8(*byte);
    }
    out.put_u8(b'"');
}
