/* Lists the Vulkan adapters that answer on this machine, one a line: kind (gpu or cpu), name, driver, between tabs.
   Exit status 1 if none answers. setup.sh compiles it to decide whether anything is missing: a driver's file may be
   there and not work, so nothing less than asking is a proof. It needs no Vulkan headers: what it uses of them is below. */
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

typedef struct { int32_t type; const void *next; const char *app; uint32_t app_version; const char *engine; uint32_t engine_version, api; } ApplicationInfo;
typedef struct { int32_t type; const void *next; uint32_t flags; const ApplicationInfo *app; uint32_t layers; const void *layer_names; uint32_t extensions; const void *extension_names; } InstanceCreateInfo;
typedef struct { int32_t type; void *next; uint32_t id; char name[256], info[256]; uint8_t conformance[4]; } DriverProperties;
typedef struct { int32_t type; void *next; uint32_t api, version, vendor, device, kind; char name[256]; uint8_t limits[4096]; } DeviceProperties;
enum { INSTANCE_CREATE_INFO = 1, PROPERTIES_2 = 1000059001, DRIVER_PROPERTIES = 1000196000, KIND_CPU = 4, API_1_2 = 1 << 22 | 2 << 12 };

int main(void) {
  void *loader = dlopen("libvulkan.so.1", RTLD_NOW);
  if (!loader) return 1;
  int32_t (*create)(const InstanceCreateInfo *, const void *, void **) = dlsym(loader, "vkCreateInstance");
  int32_t (*enumerate)(void *, uint32_t *, void **) = dlsym(loader, "vkEnumeratePhysicalDevices");
  void (*describe)(void *, DeviceProperties *) = dlsym(loader, "vkGetPhysicalDeviceProperties2");
  if (!create || !enumerate || !describe) return 1;

  ApplicationInfo app = {.api = API_1_2};
  InstanceCreateInfo info = {.type = INSTANCE_CREATE_INFO, .app = &app};
  void *instance, *devices[64];
  uint32_t count = 64;
  if (create(&info, NULL, &instance) < 0 || enumerate(instance, &count, devices) < 0) return 1;
  for (uint32_t i = 0; i < count; i++) {
    DriverProperties driver = {.type = DRIVER_PROPERTIES};
    DeviceProperties device = {.type = PROPERTIES_2, .next = &driver};
    describe(devices[i], &device);
    printf("%s\t%s\t%s\n", device.kind == KIND_CPU ? "cpu" : "gpu", device.name, *driver.info ? driver.info : driver.name);
  }
  return count == 0;
}
