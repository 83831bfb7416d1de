"""A Parquet file, read batch by batch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from model.files.text_files import OrderLogError, unreadable
from model.intake.containers import FilePart
from model.intake.table import ROW_NUMBER, Record, Table

_BATCH_ROWS: Final = 10_000
_MOST_GROUP_BYTES: Final = 1 << 30


def parquet_table(part: FilePart) -> Table:
    """The table in a Parquet file. Raises OrderLogError."""
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise OrderLogError(
            f"{part}: reading Parquet needs pyarrow;"
            ' install it with: pip install "clv-streamer[parquet]"'
        ) from None
    try:
        with pq.ParquetFile(part.path) as file:
            names, rows = tuple(file.schema_arrow.names), file.metadata.num_rows
            for group in range(file.metadata.num_row_groups):
                size = file.metadata.row_group(group).total_byte_size
                if size > _MOST_GROUP_BYTES:
                    raise OrderLogError(
                        f"{part}: row group {group + 1} takes {size >> 20:,} MiB; write smaller"
                        " ones"
                    )
    except (pa.ArrowException, OSError) as error:
        raise unreadable(part.path, "Parquet file", error) from None

    def records() -> Iterator[tuple[int, Record | str]]:
        try:
            with pq.ParquetFile(part.path) as file:
                number = 0
                for batch in file.iter_batches(batch_size=_BATCH_ROWS):
                    for row in batch.to_pylist():
                        number += 1
                        record: Record = {name: _value(value) for name, value in row.items()}
                        record[ROW_NUMBER] = str(number)
                        yield number, record
        except (pa.ArrowException, OSError) as error:
            raise unreadable(part.path, "Parquet file", error) from None

    return Table(part, f"Parquet, {rows:,} rows", names, records)


def _value(value: Any) -> Any:
    return "" if value is None else value
