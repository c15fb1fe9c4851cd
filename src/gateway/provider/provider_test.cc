#include "gateway/provider/provider.h"
#include "gateway/provider/privacy.h"

#include <set>

#include <gtest/gtest.h>

#include "gateway/provider/fake_provider.h"

namespace tandem::gateway {
namespace {

TEST(FailureTest, EveryCodeHasANameOfItsOwn) {
  std::set<std::string_view> names;
  for (int code = 0; code < kFailureCodeCount; ++code) {
    const std::string_view name = FailureCodeName(static_cast<FailureCode>(code));
    EXPECT_NE(name, "unknown") << code;
    EXPECT_TRUE(names.insert(name).second) << name;
  }
  EXPECT_EQ(FailureCodeName(FailureCode::kNpuContextCreateFailed), "npu_context_create_failed");
}

TEST(FailureTest, EveryBaseErrorHasTheDocumentedFailure) {
  const std::pair<ErrorCode, FailureCode> rows[] = {
      {ErrorCode::kInvalidArgument, FailureCode::kInvalidRequest},
      {ErrorCode::kNotFound, FailureCode::kNotFound},
      {ErrorCode::kAlreadyExists, FailureCode::kInternal},
      {ErrorCode::kUnauthenticated, FailureCode::kUnauthenticated},
      {ErrorCode::kPermissionDenied, FailureCode::kPermissionDenied},
      {ErrorCode::kFailedPrecondition, FailureCode::kUnavailable},
      {ErrorCode::kResourceExhausted, FailureCode::kRateLimited},
      {ErrorCode::kCorrupt, FailureCode::kInternal},
      {ErrorCode::kUnsupported, FailureCode::kUnsupported},
      {ErrorCode::kUnavailable, FailureCode::kUnavailable},
      {ErrorCode::kDeadlineExceeded, FailureCode::kDeadlineExceeded},
      {ErrorCode::kCancelled, FailureCode::kCancelled},
      {ErrorCode::kIo, FailureCode::kInternal},
      {ErrorCode::kInternal, FailureCode::kInternal},
  };
  for (const auto& [from, to] : rows) {
    const Failure failure = FailureFromError(Error{from, "text", "field"});
    EXPECT_EQ(failure.code, to) << ErrorCodeName(from);
    EXPECT_EQ(failure.message, "text");
    EXPECT_EQ(failure.param, "field");
  }
}

TEST(TierTest, WireNames) {
  EXPECT_EQ(TierName(Tier::kDeviceSmall), "device_small");
  EXPECT_EQ(TierName(Tier::kDeviceLarge), "device_large");
  EXPECT_EQ(TierName(Tier::kCloud), "cloud");
}

TEST(FakeProviderTest, ScriptRunsUntilItsTerminalEvent) {
  FakeProvider provider("m");
  provider.SetScript({TextDelta{"a", {}}, Finished{}, TextDelta{"never", {}}});
  std::string text;
  int terminal = 0;
  auto generation = provider.Start({}, [&](GenerateEvent event) {
    if (auto* delta = std::get_if<TextDelta>(&event)) text += delta->text;
    if (std::holds_alternative<Finished>(event)) ++terminal;
  });
  EXPECT_EQ(text, "a");
  EXPECT_EQ(terminal, 1);
  EXPECT_FALSE(provider.last_call()->released());
  generation.reset();
  EXPECT_TRUE(provider.last_call()->released());
}

TEST(FakeProviderTest, CancelledCallStillEndsOnce) {
  FakeProvider provider("m");
  FinishReason reason = FinishReason::kStop;
  auto generation = provider.Start({}, [&](GenerateEvent event) {
    if (auto* finished = std::get_if<Finished>(&event)) reason = finished->reason;
  });
  generation->Cancel();
  generation->Cancel();
  EXPECT_EQ(provider.last_call()->cancels(), 2);
  provider.last_call()->Emit(Finished{.reason = FinishReason::kCancelled});
  EXPECT_EQ(reason, FinishReason::kCancelled);
  EXPECT_TRUE(provider.last_call()->done());
}

TEST(PrivacyTest, NamesRoundTripAndStricterIsLarger) {
  for (const Privacy privacy : {Privacy::kAny, Privacy::kRedacted, Privacy::kOnDevice}) {
    EXPECT_EQ(ParsePrivacy(PrivacyName(privacy)).value(), privacy);
  }
  EXPECT_LT(Privacy::kAny, Privacy::kRedacted);
  EXPECT_LT(Privacy::kRedacted, Privacy::kOnDevice);
  EXPECT_EQ(ParsePrivacy("secret").error().message,
            "unknown privacy 'secret'; use one of any, redacted, on_device");
}

}  // namespace
}  // namespace tandem::gateway
