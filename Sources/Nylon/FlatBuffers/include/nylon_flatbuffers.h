/* FlatBuffers' official C++ library behind C functions: no C++ and no exception crosses this header.
 * Reading verifies first; the slices that come out point into the bytes that went in. */
#ifndef NYLON_FLATBUFFERS_H
#define NYLON_FLATBUFFERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Bytes of somebody else; NULL means that the field is absent. */
typedef struct NylonSlice {
  const uint8_t *bytes;
  size_t count;
} NylonSlice;

typedef struct NylonPair {
  NylonSlice key;
  NylonSlice value;
} NylonPair;

/* A verified vector of pairs; NULL means that the field is absent. */
typedef struct NylonPairs {
  const void *vector;
  size_t count;
} NylonPairs;

typedef struct NylonContextView {
  NylonSlice method, path, query;
  NylonPairs params, request_headers;
  NylonSlice request_body;
  NylonPairs response_headers;
  NylonSlice response_body;
  uint16_t status; /* 0: absent */
} NylonContextView;

/* False when the bytes are not a valid table. None of them allocates. */
bool nylon_read_pair(const uint8_t *bytes, size_t count, NylonPair *out);
bool nylon_read_headers(const uint8_t *bytes, size_t count, NylonPairs *out);
bool nylon_read_context(const uint8_t *bytes, size_t count, NylonContextView *out);
NylonPair nylon_pair_at(NylonPairs pairs, size_t index);

/* A builder that keeps its memory from one table to the next. Children come before their parents, and
 * are named by what made them; 0 stands for an absent child. When memory runs out, or a table passes
 * 1 GiB, nylon_builder_finish gives NULL until the next reset. */
typedef struct NylonBuilder NylonBuilder;

NylonBuilder *nylon_builder_new(void);
void nylon_builder_free(NylonBuilder *builder);
void nylon_builder_reset(NylonBuilder *builder);

uint32_t nylon_builder_string(NylonBuilder *builder, const uint8_t *bytes, size_t count);
uint32_t nylon_builder_blob(NylonBuilder *builder, const uint8_t *bytes, size_t count);
/* A KeyValue or HeaderKeyValue, which are laid out alike. They collect until nylon_builder_pairs. */
uint32_t nylon_builder_pair(NylonBuilder *builder, uint32_t key, uint32_t value);
uint32_t nylon_builder_pairs(NylonBuilder *builder);
uint32_t nylon_builder_headers(NylonBuilder *builder, uint32_t pairs);

/* A request or response of which nothing is present is left out. */
typedef struct NylonContextParts {
  uint32_t method, path, query, params, request_headers, request_body, response_headers, response_body;
  uint16_t status;
} NylonContextParts;
uint32_t nylon_builder_context(NylonBuilder *builder, NylonContextParts parts);

/* The table with that root, valid until the next reset. */
NylonSlice nylon_builder_finish(NylonBuilder *builder, uint32_t root);

#ifdef __cplusplus
}
#endif

#endif
