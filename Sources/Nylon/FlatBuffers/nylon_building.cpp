// Building: one FlatBufferBuilder, reused; an exception becomes a failed table.
#include "nylon_flatbuffers.h"
#include "nylon_plugin_generated.h"

#include <new>
#include <vector>

// The library asserts past 2 GiB; we stop earlier, with an answer.
static constexpr size_t bytes_max = size_t(1) << 30;

struct NylonBuilder {
  flatbuffers::FlatBufferBuilder builder{1024};
  std::vector<flatbuffers::Offset<nylon_plugin::HeaderKeyValue>> headers;
  std::vector<flatbuffers::Offset<nylon_plugin::KeyValue>> key_values;
  bool failed = false;
  bool finished = false;

  // Runs one step, unless an earlier one failed. `count` is what the step adds.
  template <typename Step> uint32_t step(size_t count, Step body) noexcept {
    if (failed || finished || count > bytes_max || builder.GetSize() > bytes_max - count) {
      failed = true;
      return 0;
    }
    try {
      return body();
    } catch (...) {
      failed = true;
      return 0;
    }
  }
};

namespace {

template <typename Target> flatbuffers::Offset<Target> at(uint32_t offset) {
  return flatbuffers::Offset<Target>(offset);
}

constexpr size_t table_bytes = 64; // more than any of our tables takes without its children

} // namespace

extern "C" {

NylonBuilder *nylon_builder_new(void) {
  try {
    return new NylonBuilder();
  } catch (...) {
    return nullptr;
  }
}

void nylon_builder_free(NylonBuilder *b) { delete b; }

void nylon_builder_reset(NylonBuilder *b) {
  b->builder.Clear();
  b->headers.clear();
  b->key_values.clear();
  b->failed = false;
  b->finished = false;
}

uint32_t nylon_builder_string(NylonBuilder *b, const uint8_t *bytes, size_t count) {
  return b->step(count + 16, [&] {
    auto text = count == 0 ? "" : reinterpret_cast<const char *>(bytes);
    return b->builder.CreateString(text, count).o;
  });
}

uint32_t nylon_builder_blob(NylonBuilder *b, const uint8_t *bytes, size_t count) {
  return b->step(count + 16, [&] {
    static const uint8_t none = 0; // an empty array may come without an address
    return b->builder.CreateVector(count == 0 ? &none : bytes, count).o;
  });
}

void nylon_builder_header(NylonBuilder *b, uint32_t key, uint32_t value) {
  b->step(table_bytes, [&] {
    b->headers.push_back(nylon_plugin::CreateHeaderKeyValue(
        b->builder, at<flatbuffers::String>(key), at<flatbuffers::String>(value)));
    return uint32_t(0);
  });
}

void nylon_builder_key_value(NylonBuilder *b, uint32_t key, uint32_t value) {
  b->step(table_bytes, [&] {
    b->key_values.push_back(nylon_plugin::CreateKeyValue(b->builder, at<flatbuffers::String>(key),
                                                         at<flatbuffers::String>(value)));
    return uint32_t(0);
  });
}

uint32_t nylon_builder_pairs(NylonBuilder *b) {
  size_t count = b->headers.size() + b->key_values.size();
  return b->step(count * sizeof(uint32_t) + 16, [&] {
    auto vector = b->headers.empty() ? b->builder.CreateVector(b->key_values).o
                                     : b->builder.CreateVector(b->headers).o;
    b->headers.clear();
    b->key_values.clear();
    return vector;
  });
}

uint32_t nylon_builder_request(NylonBuilder *b, NylonRequestParts parts) {
  using Pairs = flatbuffers::Vector<flatbuffers::Offset<nylon_plugin::KeyValue>>;
  return b->step(table_bytes, [&] {
    return nylon_plugin::CreateNylonHttpRequest(
               b->builder, at<flatbuffers::String>(parts.method),
               at<flatbuffers::String>(parts.path), at<flatbuffers::String>(parts.query),
               at<Pairs>(parts.params), at<Pairs>(parts.headers),
               at<flatbuffers::Vector<uint8_t>>(parts.body))
        .o;
  });
}

uint32_t nylon_builder_response(NylonBuilder *b, uint16_t status, uint32_t headers,
                                uint32_t body) {
  using Pairs = flatbuffers::Vector<flatbuffers::Offset<nylon_plugin::KeyValue>>;
  return b->step(table_bytes, [&] {
    return nylon_plugin::CreateNylonHttpResponse(b->builder, status, at<Pairs>(headers),
                                                 at<flatbuffers::Vector<uint8_t>>(body))
        .o;
  });
}

void nylon_builder_end_header(NylonBuilder *b, uint32_t key, uint32_t value) {
  b->step(table_bytes, [&] {
    b->builder.Finish(nylon_plugin::CreateHeaderKeyValue(
        b->builder, at<flatbuffers::String>(key), at<flatbuffers::String>(value)));
    b->finished = true;
    return uint32_t(0);
  });
}

void nylon_builder_end_headers(NylonBuilder *b, uint32_t pairs) {
  using Pairs = flatbuffers::Vector<flatbuffers::Offset<nylon_plugin::HeaderKeyValue>>;
  b->step(table_bytes, [&] {
    b->builder.Finish(nylon_plugin::CreateNylonHttpHeaders(b->builder, at<Pairs>(pairs)));
    b->finished = true;
    return uint32_t(0);
  });
}

void nylon_builder_end_context(NylonBuilder *b, uint32_t request, uint32_t response) {
  b->step(table_bytes, [&] {
    b->builder.Finish(nylon_plugin::CreateNylonHttpContext(
        b->builder, at<nylon_plugin::NylonHttpRequest>(request),
        at<nylon_plugin::NylonHttpResponse>(response)));
    b->finished = true;
    return uint32_t(0);
  });
}

NylonSlice nylon_builder_bytes(NylonBuilder *b) {
  if (b->failed || !b->finished) return {nullptr, 0};
  return {b->builder.GetBufferPointer(), b->builder.GetSize()};
}

} // extern "C"
