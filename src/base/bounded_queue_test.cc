#include "base/bounded_queue.h"

#include <memory>
#include <thread>

#include <gtest/gtest.h>

namespace tandem {
namespace {

TEST(BoundedQueueTest, FullRefusesAndLeavesTheItemAlone) {
  BoundedQueue<std::unique_ptr<int>> queue(1);
  auto second = std::make_unique<int>(2);
  EXPECT_TRUE(queue.TryPush(std::make_unique<int>(1)));
  EXPECT_FALSE(queue.TryPush(std::move(second)));
  ASSERT_NE(second, nullptr);
  EXPECT_EQ(**queue.TryPop(), 1);
  EXPECT_TRUE(queue.TryPush(std::move(second)));
}

TEST(BoundedQueueTest, CloseDrainsThenEnds) {
  BoundedQueue<int> queue(4);
  ASSERT_TRUE(queue.TryPush(7));
  queue.Close();
  EXPECT_FALSE(queue.TryPush(8));
  EXPECT_EQ(queue.Pop(), 7);
  EXPECT_EQ(queue.Pop(), std::nullopt);
}

TEST(BoundedQueueTest, StopWakesAWaitingConsumer) {
  BoundedQueue<int> queue(1);
  std::optional<int> got = 1;
  std::jthread consumer([&](std::stop_token stop) { got = queue.Pop(stop); });
  consumer.request_stop();
  consumer.join();
  EXPECT_EQ(got, std::nullopt);
}

TEST(BoundedQueueTest, EveryItemArrivesOnceAcrossThreads) {
  BoundedQueue<int> queue(8);
  int sum = 0;
  std::jthread consumer([&] {
    while (auto item = queue.Pop()) sum += *item;
  });
  for (int i = 1; i <= 1000; ++i) {
    while (!queue.TryPush(int{i})) std::this_thread::yield();
  }
  queue.Close();
  consumer.join();
  EXPECT_EQ(sum, 500500);
}

}  // namespace
}  // namespace tandem
