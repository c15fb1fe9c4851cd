#include "fleet/catalogue/certificate.h"

#include <algorithm>
#include <utility>

#include <boost/json.hpp>

#include "fleet/catalogue/catalogue.h"
#include "fleet/json/fields.h"

namespace tandem::fleet {
namespace {

namespace json = boost::json;

constexpr int32_t kMillion = 1000000;
constexpr int32_t kMaxQuestions = 10000000;
constexpr int32_t kMaxContext = 1 << 24;
constexpr int32_t kMaxMs = 86400000;

char LowerAscii(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }

bool EqualsIgnoringCase(std::string_view a, std::string_view b) {
  return std::ranges::equal(a, b, {}, LowerAscii, LowerAscii);
}

Result<ExamFigure> ParseExam(const json::value& value, std::string where) {
  JsonFields fields(value, std::move(where));
  const ExamFigure exam{
      .exam = fields.Text("exam", JsonFields::kRequired),
      .n_questions =
          static_cast<uint32_t>(fields.Count("questions", kMaxQuestions, JsonFields::kRequired)),
      .score_ppm =
          static_cast<uint32_t>(fields.Count("score_ppm", kMillion, JsonFields::kRequired)),
      .reference_ppm =
          static_cast<uint32_t>(fields.Count("reference_ppm", kMillion, JsonFields::kRequired))};
  if (exam.n_questions == 0) fields.Fail("questions", "must be above 0");
  if (exam.reference_ppm == 0) fields.Fail("reference_ppm", "must be above 0");
  TANDEM_RETURN_IF_ERROR(fields.Done());
  return exam;
}

Result<SpeedFigure> ParseSpeed(const json::value& value, std::string where) {
  JsonFields fields(value, std::move(where));
  SpeedFigure speed{
      .device = fields.Text("device", JsonFields::kRequired),
      .executor = fields.Text("executor", JsonFields::kRequired),
      .context_tokens = fields.Count("context_tokens", kMaxContext, JsonFields::kRequired),
      .decode_milli = fields.Number("decode_milli_tokens_per_s", JsonFields::kRequired).value_or(0),
      .prefill_milli = fields.Number("prefill_milli_tokens_per_s").value_or(0),
      .ttft_ms = static_cast<uint32_t>(fields.Count("ttft_ms", kMaxMs)),
      .cold_start_ms = static_cast<uint32_t>(fields.Count("cold_start_ms", kMaxMs)),
      .peak_memory_bytes = fields.Number("peak_memory_bytes").value_or(0)};
  TANDEM_RETURN_IF_ERROR(fields.Done());
  return speed;
}

json::object SpeedJson(const SpeedFigure& speed) {
  json::object object = {{"device", speed.device},
                         {"executor", speed.executor},
                         {"context_tokens", speed.context_tokens},
                         {"decode_milli_tokens_per_s", speed.decode_milli}};
  if (speed.prefill_milli != 0) object["prefill_milli_tokens_per_s"] = speed.prefill_milli;
  if (speed.ttft_ms != 0) object["ttft_ms"] = speed.ttft_ms;
  if (speed.cold_start_ms != 0) object["cold_start_ms"] = speed.cold_start_ms;
  if (speed.peak_memory_bytes != 0) object["peak_memory_bytes"] = speed.peak_memory_bytes;
  return object;
}

}  // namespace

std::optional<uint32_t> Certificate::kept_accuracy_ppm() const {
  // In right answers, so that a long exam weighs more than a short one.
  uint64_t score = 0;
  uint64_t reference = 0;
  for (const ExamFigure& exam : exams) {
    score += uint64_t{exam.n_questions} * exam.score_ppm;
    reference += uint64_t{exam.n_questions} * exam.reference_ppm;
  }
  if (reference == 0) return std::nullopt;
  return static_cast<uint32_t>(static_cast<double>(score) / static_cast<double>(reference) *
                               kMillion);
}

const SpeedFigure* Certificate::FindSpeed(std::string_view device,
                                          std::string_view executor) const {
  for (const SpeedFigure& speed : speeds) {
    if (EqualsIgnoringCase(speed.device, device) && speed.executor == executor) return &speed;
  }
  return nullptr;
}

Result<Certificate> ParseCertificate(const json::value& value, const std::string& where) {
  JsonFields fields(value, where);
  Certificate certificate{.package_sha256 = fields.Text("package_sha256", JsonFields::kRequired),
                          .issued_by = fields.Text("issued_by", JsonFields::kRequired),
                          .issued_at_s = static_cast<int64_t>(
                              fields.Number("issued_at_s", JsonFields::kRequired).value_or(0)),
                          .method = fields.Text("method")};
  if (!IsSha256Hex(certificate.package_sha256)) {
    fields.Fail("package_sha256", "must be 64 lower-case hexadecimal digits");
  }
  const auto exams = fields.List("exams");
  const auto speeds = fields.List("speeds");
  TANDEM_RETURN_IF_ERROR(fields.Done());
  for (size_t i = 0; i < exams.size(); ++i) {
    TANDEM_ASSIGN_OR_RETURN(ExamFigure exam,
                            ParseExam(*exams[i], fmt::format("{}.exams[{}]", where, i)));
    certificate.exams.push_back(std::move(exam));
  }
  for (size_t i = 0; i < speeds.size(); ++i) {
    TANDEM_ASSIGN_OR_RETURN(SpeedFigure speed,
                            ParseSpeed(*speeds[i], fmt::format("{}.speeds[{}]", where, i)));
    certificate.speeds.push_back(std::move(speed));
  }
  return certificate;
}

json::value CertificateJson(const Certificate& certificate) {
  json::array exams;
  for (const ExamFigure& exam : certificate.exams) {
    exams.push_back(json::object{{"exam", exam.exam},
                                 {"questions", exam.n_questions},
                                 {"score_ppm", exam.score_ppm},
                                 {"reference_ppm", exam.reference_ppm}});
  }
  json::array speeds;
  for (const SpeedFigure& speed : certificate.speeds) speeds.push_back(SpeedJson(speed));
  json::object object = {{"package_sha256", certificate.package_sha256},
                         {"issued_by", certificate.issued_by},
                         {"issued_at_s", certificate.issued_at_s}};
  if (!certificate.method.empty()) object["method"] = certificate.method;
  if (!exams.empty()) object["exams"] = std::move(exams);
  if (!speeds.empty()) object["speeds"] = std::move(speeds);
  return object;
}

}  // namespace tandem::fleet
