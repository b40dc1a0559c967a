#pragma once

namespace tandem {

// A program that links counting_new.cc replaces operator new: between these calls every allocation
// of every thread is counted.
void StartCountingAllocations();
int StopCountingAllocations();

}  // namespace tandem
