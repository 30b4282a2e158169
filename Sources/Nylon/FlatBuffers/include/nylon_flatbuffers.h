/* FlatBuffers' official C++ library behind C functions: no C++ and no exception
 * crosses this header. Reading always verifies first; the slices that come out
 * point into the bytes that went in.
 */
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

typedef struct NylonRequestView {
  bool present;
  NylonSlice method;
  NylonSlice path;
  NylonSlice query;
  NylonPairs params;
  NylonPairs headers;
  NylonSlice body;
} NylonRequestView;

typedef struct NylonResponseView {
  bool present;
  uint16_t status; /* 0: absent */
  NylonPairs headers;
  NylonSlice body;
} NylonResponseView;

typedef struct NylonContextView {
  NylonRequestView request;
  NylonResponseView response;
} NylonContextView;

/* False when the bytes are not a valid table. None of them allocates. */
bool nylon_read_pair(const uint8_t *bytes, size_t count, NylonPair *out);
bool nylon_read_headers(const uint8_t *bytes, size_t count, NylonPairs *out);
bool nylon_read_context(const uint8_t *bytes, size_t count, NylonContextView *out);
NylonPair nylon_header_at(NylonPairs headers, size_t index);  /* of nylon_read_headers */
NylonPair nylon_key_value_at(NylonPairs pairs, size_t index); /* of nylon_read_context */

/* A builder that keeps its memory from one table to the next. Children come before
 * their parents; 0 stands for an absent child. When memory runs out, or a table
 * passes 1 GiB, nylon_builder_bytes gives NULL until the next reset. */
typedef struct NylonBuilder NylonBuilder;

NylonBuilder *nylon_builder_new(void);
void nylon_builder_free(NylonBuilder *builder);
void nylon_builder_reset(NylonBuilder *builder);

uint32_t nylon_builder_string(NylonBuilder *builder, const uint8_t *bytes, size_t count);
uint32_t nylon_builder_blob(NylonBuilder *builder, const uint8_t *bytes, size_t count);
/* Pairs collect until one of the two functions below makes them a vector. */
void nylon_builder_header(NylonBuilder *builder, uint32_t key, uint32_t value);
void nylon_builder_key_value(NylonBuilder *builder, uint32_t key, uint32_t value);
uint32_t nylon_builder_pairs(NylonBuilder *builder);

typedef struct NylonRequestParts {
  uint32_t method, path, query, params, headers, body;
} NylonRequestParts;
uint32_t nylon_builder_request(NylonBuilder *builder, NylonRequestParts parts);
uint32_t nylon_builder_response(NylonBuilder *builder, uint16_t status, uint32_t headers,
                                uint32_t body);

/* The three roots; each ends the table. */
void nylon_builder_end_header(NylonBuilder *builder, uint32_t key, uint32_t value);
void nylon_builder_end_headers(NylonBuilder *builder, uint32_t pairs);
void nylon_builder_end_context(NylonBuilder *builder, uint32_t request, uint32_t response);

/* The finished table, valid until the next reset. */
NylonSlice nylon_builder_bytes(NylonBuilder *builder);

#ifdef __cplusplus
}
#endif

#endif
