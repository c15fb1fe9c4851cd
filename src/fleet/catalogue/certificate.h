// A certificate: what one package was measured to be, before anybody deploys it. It names the
// package by its digest, so that it holds for these bytes and no others.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <boost/json/value.hpp>

#include "base/error.h"

namespace tandem::fleet {

// One exam, taken by the package and by the reference (the model's 16-bit weights).
struct ExamFigure {
  std::string exam;  // "models/demo/exam.jsonl"
  uint32_t n_questions = 0;
  uint32_t score_ppm = 0;      // right answers per million
  uint32_t reference_ppm = 0;  // the reference's
};

// Speed on one class of device.
struct SpeedFigure {
  std::string device;  // a part of the device database ("SM8650"), or a class such as "x86_64-avx2"
  std::string executor;  // "cpu", "npu", ...
  int32_t context_tokens = 0;
  uint64_t decode_milli = 0;   // thousandths of tokens a second
  uint64_t prefill_milli = 0;  // likewise; 0: not measured
  uint32_t ttft_ms = 0;        // 0: not measured
  uint32_t cold_start_ms = 0;  // 0: not measured
  uint64_t peak_memory_bytes = 0;
};

struct Certificate {
  std::string package_sha256;  // of the file that was measured
  std::string issued_by;       // who measured: a name, for people
  int64_t issued_at_s = 0;     // seconds since 1970
  std::string method = {};     // how: a command or a document
  std::vector<ExamFigure> exams = {};
  std::vector<SpeedFigure> speeds = {};

  // The share of the reference's right answers that the package kept, over all exams, in parts per
  // million; nothing where no exam says.
  std::optional<uint32_t> kept_accuracy_ppm() const;
  // The figure of a device (case does not count) and executor; null where it was not measured.
  const SpeedFigure* FindSpeed(std::string_view device, std::string_view executor) const;
};

// Errors: kCorrupt, naming the field.
Result<Certificate> ParseCertificate(const boost::json::value& value, const std::string& where);
boost::json::value CertificateJson(const Certificate& certificate);

}  // namespace tandem::fleet
