// Reading: verify, then hand out slices of the caller's bytes.
#include "nylon_flatbuffers.h"
#include "nylon_plugin_generated.h"

namespace {

using flatbuffers::Offset;
using flatbuffers::Vector;

// Hostile bytes can point many fields at one table; these bounds keep the check short.
constexpr flatbuffers::uoffset_t depth_max = 8;
constexpr flatbuffers::uoffset_t tables_max = 65536;

// The library asserts on a larger buffer, and an assert is not an answer.
constexpr size_t bytes_max = size_t(1) << 30;

template <typename Table> const Table *verified(const uint8_t *bytes, size_t count) {
  if (bytes == nullptr || count < sizeof(flatbuffers::uoffset_t) * 2 || count > bytes_max) {
    return nullptr;
  }
  // Messages lie unaligned inside MessagePack, so alignment is not asked for.
  flatbuffers::Verifier verifier(bytes, count, depth_max, tables_max, false);
  if (!verifier.VerifyBuffer<Table>(nullptr)) return nullptr;
  return flatbuffers::GetRoot<Table>(bytes);
}

NylonSlice slice(const flatbuffers::String *text) {
  if (text == nullptr) return {nullptr, 0};
  return {text->Data(), text->size()};
}

NylonSlice slice(const Vector<uint8_t> *bytes) {
  if (bytes == nullptr) return {nullptr, 0};
  return {bytes->Data(), bytes->size()};
}

template <typename Pair> NylonPairs pairs(const Vector<Offset<Pair>> *vector) {
  if (vector == nullptr) return {nullptr, 0};
  return {vector, vector->size()};
}

template <typename Pair> NylonPair pair_at(NylonPairs pairs, size_t index) {
  if (pairs.vector == nullptr || index >= pairs.count) return {{nullptr, 0}, {nullptr, 0}};
  auto vector = static_cast<const Vector<Offset<Pair>> *>(pairs.vector);
  auto pair = vector->Get(static_cast<flatbuffers::uoffset_t>(index));
  return {slice(pair->key()), slice(pair->value())};
}

// Many offsets may point at one long string: a message of a megabyte that unfolds to
// gigabytes when copied. Shared strings are allowed, within reason.
constexpr size_t unfolding_max = 16;

template <typename Pair>
bool unfolds_within(const Vector<Offset<Pair>> *vector, size_t bytes_of_table) {
  if (vector == nullptr) return true;
  size_t budget = bytes_of_table * unfolding_max;
  for (auto pair : *vector) {
    size_t size = slice(pair->key()).count + slice(pair->value()).count;
    if (size > budget) return false;
    budget -= size;
  }
  return true;
}

} // namespace

extern "C" {

bool nylon_read_pair(const uint8_t *bytes, size_t count, NylonPair *out) {
  auto pair = verified<nylon_plugin::HeaderKeyValue>(bytes, count);
  if (pair == nullptr) return false;
  *out = {slice(pair->key()), slice(pair->value())};
  return true;
}

bool nylon_read_headers(const uint8_t *bytes, size_t count, NylonPairs *out) {
  auto table = verified<nylon_plugin::NylonHttpHeaders>(bytes, count);
  if (table == nullptr || !unfolds_within(table->headers(), count)) return false;
  *out = pairs(table->headers());
  return true;
}

bool nylon_read_context(const uint8_t *bytes, size_t count, NylonContextView *out) {
  auto context = verified<nylon_plugin::NylonHttpContext>(bytes, count);
  if (context == nullptr) return false;
  *out = NylonContextView{};
  if (auto request = context->request()) {
    if (!unfolds_within(request->params(), count)) return false;
    if (!unfolds_within(request->headers(), count)) return false;
    out->request = {true,
                    slice(request->method()),
                    slice(request->path()),
                    slice(request->query()),
                    pairs(request->params()),
                    pairs(request->headers()),
                    slice(request->body())};
  }
  if (auto response = context->response()) {
    if (!unfolds_within(response->headers(), count)) return false;
    out->response = {true, response->status(), pairs(response->headers()),
                     slice(response->body())};
  }
  return true;
}

NylonPair nylon_header_at(NylonPairs headers, size_t index) {
  return pair_at<nylon_plugin::HeaderKeyValue>(headers, index);
}

NylonPair nylon_key_value_at(NylonPairs pairs, size_t index) {
  return pair_at<nylon_plugin::KeyValue>(pairs, index);
}

} // extern "C"
