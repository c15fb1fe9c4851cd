// Manifests for tests.
#pragma once

#include "fleet/catalogue/package_manifest.h"

namespace tandem::fleet::testing_support {

// A small model with one certified CPU variant and two files.
inline PackageManifest SomeManifest() {
  const std::string weights(64, 'a');
  PackageManifest manifest{
      .model = "phi-test",
      .aliases = {"phi-test-int4"},
      .title = "A test",
      .license = "MIT",
      .shape = ModelShape{.n_layers = 2,
                          .n_heads = 4,
                          .n_kv_heads = 2,
                          .head_dim = 32,
                          .d_model = 128,
                          .d_ff = 384,
                          .vocab_size = 2048,
                          .context_length = 4096,
                          .tied_embeddings = true},
      .min_kept_accuracy_ppm = 970000,
      .variant = {.name = "int4",
                  .quantization = "int4",
                  .scheme = "int4",
                  .platforms = {"linux_x86_64", "android_arm64"}},
      .files = {{.name = "weights.tandem", .size_bytes = 1000, .sha256 = weights},
                {.name = "tokenizer.json", .size_bytes = 7, .sha256 = std::string(64, 'b')}},
      .built_from = {"hf.co/some/model"},
      .created_at_s = 1700000000};
  manifest.variant.certificate = Certificate{
      .package_sha256 = weights,
      .issued_by = "the laboratory",
      .issued_at_s = 1700000000,
      .exams = {{.exam = "e", .n_questions = 100, .score_ppm = 980000, .reference_ppm = 1000000}},
      .speeds = {
          {.device = "SM8650", .executor = "cpu", .context_tokens = 1024, .decode_milli = 21500}}};
  return manifest;
}

}  // namespace tandem::fleet::testing_support
