#include "engine/accelerator.h"

#include <memory>
#include <utility>

#include "engine/executor/cpu_executor.h"
#include "engine/executor/known_answer.h"
#include "engine/model/model.h"
#include "engine/package/file.h"

namespace tandem::engine {

Result<DeviceInfo> ProbeAccelerator(const std::filesystem::path& path) {
  TANDEM_ASSIGN_OR_RETURN(const auto driver, executor::Driver::Load(path));
  return driver->Probe();
}

Status ResetAccelerator(const std::filesystem::path& path) {
  TANDEM_ASSIGN_OR_RETURN(const auto driver, executor::Driver::Load(path));
  return driver->Reset();
}

Result<AcceleratorCheck> CheckAccelerator(const std::filesystem::path& driver_path,
                                          const std::filesystem::path& package,
                                          const Clock& clock) {
  AcceleratorCheck check;
  TANDEM_ASSIGN_OR_RETURN(auto driver, executor::Driver::Load(driver_path));
  TANDEM_ASSIGN_OR_RETURN(check.device, driver->Probe());
  TANDEM_ASSIGN_OR_RETURN(auto file, package::File::Open(package));
  TANDEM_ASSIGN_OR_RETURN(auto model, model::Model::Load(std::move(file)));
  const int32_t n_layers = model->hyperparameters().n_layers;

  TANDEM_ASSIGN_OR_RETURN(
      auto accelerator,
      executor::CreateDriverExecutor(std::move(driver),
                                     {.package = package,
                                      .context_tokens = executor::kKnownAnswerContextTokens,
                                      .limits = executor::kKnownAnswerLimits,
                                      .max_slots = executor::kKnownAnswerSlots,
                                      .memory_limit_bytes = 0}));
  TANDEM_ASSIGN_OR_RETURN(const auto answers, executor::AskKnownAnswers(*accelerator, clock));
  accelerator.reset();

  TANDEM_ASSIGN_OR_RETURN(
      const auto cpu, executor::CpuExecutor::Create(
                          std::move(model), {.n_threads = 0,
                                             .context_tokens = executor::kKnownAnswerContextTokens,
                                             .limits = executor::kKnownAnswerLimits}));
  TANDEM_ASSIGN_OR_RETURN(const auto reference, executor::AskKnownAnswers(*cpu, clock));
  const executor::AnswerComparison comparison =
      executor::CompareAnswers(reference, answers, executor::KnownAnswerBound(n_layers));
  check.finite = comparison.same_shape && comparison.finite;
  check.relative_error = comparison.worst_relative_error;
  check.error_bound = comparison.bound;
  check.prefill_tokens_per_second = answers.prefill_tokens_per_second;
  check.decode_tokens_per_second = answers.decode_tokens_per_second;
  check.cpu_prefill_tokens_per_second = reference.prefill_tokens_per_second;
  check.cpu_decode_tokens_per_second = reference.decode_tokens_per_second;
  return check;
}

}  // namespace tandem::engine
