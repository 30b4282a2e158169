#include "nylon_flatbuffers.h"
#include "nylon_plugin_generated.h"

#include <new>
#include <vector>

namespace {

using flatbuffers::Offset;
using flatbuffers::Vector;

// The library asserts on more, and an assert is not an answer.
constexpr size_t bytes_max = size_t(1) << 30;

// Hostile bytes can point many fields at one table; these bounds keep the check short.
constexpr flatbuffers::uoffset_t depth_max = 8;
constexpr flatbuffers::uoffset_t tables_max = 65536;

template <typename Table> const Table *verified(const uint8_t *bytes, size_t count) {
  if (bytes == nullptr || count < sizeof(flatbuffers::uoffset_t) * 2 || count > bytes_max) {
    return nullptr;
  }
  // Messages lie unaligned inside MessagePack, so alignment is not asked for.
  flatbuffers::Verifier verifier(bytes, count, depth_max, tables_max, false);
  if (!verifier.VerifyBuffer<Table>(nullptr)) return nullptr;
  return flatbuffers::GetRoot<Table>(bytes);
}

template <typename Bytes> NylonSlice slice(const Bytes *bytes) {
  if (bytes == nullptr) return {nullptr, 0};
  return {bytes->Data(), bytes->size()};
}

// Many offsets may point at one long string: a message of a megabyte that unfolds to gigabytes when
// copied. Shared strings are allowed, within reason; false past that.
constexpr size_t unfolding_max = 16;

template <typename Pair>
bool take(const Vector<Offset<Pair>> *vector, size_t bytes_of_table, NylonPairs &out) {
  if (vector == nullptr) return true;
  out = {vector, vector->size()};
  size_t budget = bytes_of_table * unfolding_max;
  for (auto pair : *vector) {
    size_t size = slice(pair->key()).count + slice(pair->value()).count;
    if (size > budget) return false;
    budget -= size;
  }
  return true;
}

// A child, as whatever its parent has there.
struct At {
  uint32_t offset;
  template <typename Child> operator Offset<Child>() const { return Offset<Child>(offset); }
};

constexpr size_t table_bytes = 64; // more than any of our tables takes without its children

} // namespace

struct NylonBuilder {
  flatbuffers::FlatBufferBuilder builder{1024};
  std::vector<Offset<nylon_plugin::KeyValue>> pairs;
  bool failed = false;

  // Runs one step, unless an earlier one failed. `count` is what the step adds at most.
  template <typename Step> uint32_t step(size_t count, Step body) noexcept {
    if (failed || count > bytes_max || builder.GetSize() > bytes_max - count) {
      failed = true;
      return 0;
    }
    try {
      return body().o;
    } catch (...) {
      failed = true;
      return 0;
    }
  }
};

extern "C" {

bool nylon_read_pair(const uint8_t *bytes, size_t count, NylonPair *out) {
  auto pair = verified<nylon_plugin::HeaderKeyValue>(bytes, count);
  if (pair == nullptr) return false;
  *out = {slice(pair->key()), slice(pair->value())};
  return true;
}

bool nylon_read_headers(const uint8_t *bytes, size_t count, NylonPairs *out) {
  auto table = verified<nylon_plugin::NylonHttpHeaders>(bytes, count);
  return table != nullptr && take(table->headers(), count, *out);
}

bool nylon_read_context(const uint8_t *bytes, size_t count, NylonContextView *out) {
  auto context = verified<nylon_plugin::NylonHttpContext>(bytes, count);
  if (context == nullptr) return false;
  *out = NylonContextView{};
  if (auto request = context->request()) {
    if (!take(request->params(), count, out->params)) return false;
    if (!take(request->headers(), count, out->request_headers)) return false;
    out->method = slice(request->method());
    out->path = slice(request->path());
    out->query = slice(request->query());
    out->request_body = slice(request->body());
  }
  if (auto response = context->response()) {
    if (!take(response->headers(), count, out->response_headers)) return false;
    out->response_body = slice(response->body());
    out->status = response->status();
  }
  return true;
}

NylonPair nylon_pair_at(NylonPairs pairs, size_t index) {
  if (index >= pairs.count) return {{nullptr, 0}, {nullptr, 0}};
  auto vector = static_cast<const Vector<Offset<nylon_plugin::KeyValue>> *>(pairs.vector);
  auto pair = vector->Get(static_cast<flatbuffers::uoffset_t>(index));
  return {slice(pair->key()), slice(pair->value())};
}

NylonBuilder *nylon_builder_new(void) { return new (std::nothrow) NylonBuilder(); }

void nylon_builder_free(NylonBuilder *b) { delete b; }

void nylon_builder_reset(NylonBuilder *b) {
  b->builder.Clear();
  b->pairs.clear();
  b->failed = false;
}

uint32_t nylon_builder_string(NylonBuilder *b, const uint8_t *bytes, size_t count) {
  auto text = count == 0 ? "" : reinterpret_cast<const char *>(bytes);
  return b->step(count + 16, [&] { return b->builder.CreateString(text, count); });
}

uint32_t nylon_builder_blob(NylonBuilder *b, const uint8_t *bytes, size_t count) {
  static const uint8_t none = 0; // an empty array may come without an address
  return b->step(count + 16,
                 [&] { return b->builder.CreateVector(count == 0 ? &none : bytes, count); });
}

uint32_t nylon_builder_pair(NylonBuilder *b, uint32_t key, uint32_t value) {
  return b->step(table_bytes, [&] {
    b->pairs.push_back(nylon_plugin::CreateKeyValue(b->builder, At{key}, At{value}));
    return b->pairs.back();
  });
}

uint32_t nylon_builder_pairs(NylonBuilder *b) {
  uint32_t vector = b->step(b->pairs.size() * sizeof(uint32_t) + 16,
                            [&] { return b->builder.CreateVector(b->pairs); });
  b->pairs.clear();
  return vector;
}

uint32_t nylon_builder_headers(NylonBuilder *b, uint32_t pairs) {
  return b->step(table_bytes,
                 [&] { return nylon_plugin::CreateNylonHttpHeaders(b->builder, At{pairs}); });
}

uint32_t nylon_builder_context(NylonBuilder *b, NylonContextParts p) {
  return b->step(3 * table_bytes, [&] {
    Offset<nylon_plugin::NylonHttpRequest> request;
    Offset<nylon_plugin::NylonHttpResponse> response;
    if (p.method || p.path || p.query || p.params || p.request_headers || p.request_body) {
      request = nylon_plugin::CreateNylonHttpRequest(b->builder, At{p.method}, At{p.path}, At{p.query},
                                                     At{p.params}, At{p.request_headers},
                                                     At{p.request_body});
    }
    if (p.status || p.response_headers || p.response_body) {
      response = nylon_plugin::CreateNylonHttpResponse(b->builder, p.status, At{p.response_headers},
                                                       At{p.response_body});
    }
    return nylon_plugin::CreateNylonHttpContext(b->builder, request, response);
  });
}

NylonSlice nylon_builder_finish(NylonBuilder *b, uint32_t root) {
  b->step(table_bytes, [&] {
    b->builder.Finish(Offset<nylon_plugin::NylonHttpContext>(root));
    return Offset<void>(root);
  });
  if (b->failed) return {nullptr, 0};
  return {b->builder.GetBufferPointer(), b->builder.GetSize()};
}

} // extern "C"
