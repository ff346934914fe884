#define BOOST_TEST_MODULE vmm_agent
#include <boost/test/unit_test.hpp>
