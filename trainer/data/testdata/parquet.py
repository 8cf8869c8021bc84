"""Writes the Parquet files beside it. See README.md."""
import pyarrow as pa
import pyarrow.parquet as pq

call = {"function": {"name": "lamp", "arguments": '{"on": true}'}}
chats = pa.table({
    "messages": pa.array([
        [{"role": "user", "content": "sky?", "tool_calls": None}, {"role": "assistant", "content": "Blue.", "tool_calls": None}],
        [{"role": "user", "content": "Light!", "tool_calls": None}, {"role": "assistant", "content": None, "tool_calls": [call]}],
    ]),
    "source": ["a", None],
})
pq.write_table(chats, "chats.parquet", compression="zstd")
pairs = pa.table({"question": [f"{i} + 1?" for i in range(100)], "answer": list(range(1, 101))})
pq.write_table(pairs, "pairs.parquet", compression="snappy", row_group_size=30)
