/* What an executor driver exports: a shared library that runs models on an accelerator (an NPU, a
 * GPU) for Tandem. C, so that any compiler's library fits. docs/executor-abi.md explains it with an
 * example.
 *
 * The library exports one function, tandem_driver_entry. Everything else goes through the table
 * that it returns. Structures begin with their size, so that later versions can append fields; a
 * driver must not read beyond `struct_size` of what it is given, nor write beyond it.
 *
 * Threads: probe and reset from any thread, one call at a time; a context and its slots from one
 * thread at a time. No function may throw, exit the process, or install signal handlers.
 */
#ifndef TANDEM_ENGINE_EXECUTOR_DRIVER_ABI_H_
#define TANDEM_ENGINE_EXECUTOR_DRIVER_ABI_H_

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define TANDEM_DRIVER_ABI_VERSION 1u

typedef enum tandem_driver_status {
  TANDEM_DRIVER_OK = 0,
  TANDEM_DRIVER_INVALID = 1,        /* an argument breaks the rules below: a bug of the caller */
  TANDEM_DRIVER_OUT_OF_MEMORY = 2,  /* the device's or the host's */
  TANDEM_DRIVER_UNSUPPORTED = 3,    /* no such device, or not this package on it */
  TANDEM_DRIVER_CONTEXT_FAILED = 4, /* the context cannot be created now; after a reset it may be */
  TANDEM_DRIVER_DEVICE_LOST = 5,    /* the device hung or was reset; the context is of no use */
  TANDEM_DRIVER_INTERNAL = 6
} tandem_driver_status;

typedef enum tandem_device_kind {
  TANDEM_DEVICE_OTHER = 0,
  TANDEM_DEVICE_GPU = 1,
  TANDEM_DEVICE_NPU = 2
} tandem_device_kind;

/* Why something failed, for people: UTF-8, zero-terminated, at most `capacity` bytes with the zero.
 */
typedef struct tandem_driver_message {
  char* text;
  size_t capacity;
} tandem_driver_message;

/* Texts are UTF-8 and zero-terminated. */
typedef struct tandem_device_info {
  uint32_t struct_size;
  uint32_t kind; /* tandem_device_kind */
  char driver_name[64];
  char driver_version[64]; /* of the driver and of what it stands on: a change repeats the self-test
                            */
  char device_name[128];
  uint64_t memory_bytes; /* that models may use; 0: unknown */
} tandem_device_info;

typedef struct tandem_context_options {
  uint32_t struct_size;
  const char* package_path;    /* a device package (docs/package.md), which stays as it is */
  int32_t context_tokens;      /* of each slot, at least 1 */
  int32_t max_step_tokens;     /* of all entries of a step */
  int32_t max_logit_rows;      /* likewise */
  int32_t max_slots;           /* open at the same time */
  uint64_t memory_limit_bytes; /* for weights, slots and scratch together; 0: none */
} tandem_context_options;

/* What a context came out as; the driver fills it in. Its limits may be below those asked for. */
typedef struct tandem_context_info {
  uint32_t struct_size;
  int32_t vocab_size; /* rows of the head; floats in a row of logits */
  int32_t context_tokens;
  int32_t max_step_tokens;
  int32_t max_logit_rows;
  uint64_t weights_bytes;
  uint64_t scratch_bytes;
  uint64_t slot_bytes; /* of one slot */
} tandem_context_info;

/* One sequence's share of a step: tokens that follow what its slot holds. */
typedef struct tandem_step_entry {
  int32_t slot;
  int32_t n_tokens;         /* at least 1 */
  const int32_t* token_ids; /* [n_tokens], each in [0, vocab_size) */
  int32_t n_logit_rows;     /* logits are wanted after the last so many of them */
} tandem_step_entry;

typedef struct tandem_context tandem_context;

typedef struct tandem_driver {
  uint32_t struct_size;
  uint32_t abi_version;

  /* Finds the device. Cheap; may be called while contexts exist. */
  tandem_driver_status (*probe)(tandem_device_info* info, tandem_driver_message why);
  /* Tears the device's state down, so that contexts can be created again. Existing contexts are
   * lost: their functions return TANDEM_DRIVER_DEVICE_LOST until they are destroyed. */
  tandem_driver_status (*reset)(tandem_driver_message why);

  tandem_driver_status (*create)(const tandem_context_options* options, tandem_context** context,
                                 tandem_context_info* info, tandem_driver_message why);
  void (*destroy)(tandem_context* context);

  /* Slots keep the keys and values of one sequence each. A new one is empty. */
  tandem_driver_status (*slot_open)(tandem_context* context, int32_t* slot,
                                    tandem_driver_message why);
  void (*slot_close)(tandem_context* context, int32_t slot);
  /* Forgets everything behind the first n_tokens. */
  tandem_driver_status (*slot_truncate)(tandem_context* context, int32_t slot, int32_t n_tokens);
  /* Makes `to` hold the first n_tokens of `from`. */
  tandem_driver_status (*slot_copy)(tandem_context* context, int32_t from, int32_t n_tokens,
                                    int32_t to);

  /* Appends each entry's tokens to its slot and writes the wanted rows of logits, by entry, then by
   * position: logits [sum of n_logit_rows][vocab_size], not normalised. */
  tandem_driver_status (*step)(tandem_context* context, const tandem_step_entry* entries,
                               size_t n_entries, float* logits, tandem_driver_message why);
} tandem_driver;

/* The table, valid as long as the library is loaded; null where the driver does not speak this
 * version. */
typedef const tandem_driver* (*tandem_driver_entry_fn)(uint32_t abi_version);
#define TANDEM_DRIVER_ENTRY_NAME "tandem_driver_entry"

#ifdef __cplusplus
}
#endif

#endif /* TANDEM_ENGINE_EXECUTOR_DRIVER_ABI_H_ */
