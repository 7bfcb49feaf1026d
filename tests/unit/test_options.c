/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The command line: what libxl emits (toolstack contract 1.3 to 1.9), QEMU's other spellings, and bad lines with their
 * exact messages. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "core/options.h"
#include "core/optlist.h"

enum { MAX_ARGS = 96 };

static struct options o;
static char err[512];

/* Splits line at blanks ('@' stands for a blank inside an argument, "~" for an empty argument) and parses it. */
static int parse(const char *line)
{
    static char text[8192];
    static char program[] = "hvm-dm";
    static char empty[] = "";
    char *argv[MAX_ARGS] = {program};
    int argc = 1;

    options_free(&o);
    snprintf(text, sizeof(text), "%s", line);
    for (char *save, *word = strtok_r(text, " ", &save); word && argc < MAX_ARGS; word = strtok_r(NULL, " ", &save)) {
        for (char *c = word; *c; c++) {
            *c = *c == '@' ? ' ' : *c;
        }
        argv[argc++] = strcmp(word, "~") == 0 ? empty : word;
    }
    return options_parse(&o, argc, argv, err, sizeof(err));
}

static void good(const char *line)
{
    int rc = parse(line);

    assert_string_equal(err, "");
    assert_int_equal(rc, 0);
}

static void supported(const char *line)
{
    good(line);
    assert_int_equal(options_check_supported(&o, err, sizeof(err)), 0);
}

static int teardown(void **state)
{
    (void)state;
    options_free(&o);
    o.arena = NULL;
    return 0;
}

/* What every line of libxl starts with. */
#define LIBXL                                                                                                          \
    "-xen-domid 1 -no-shutdown -chardev socket,id=libxl-cmd,path=/var/run/xen/qmp-libxl-1,server=on,wait=off "         \
    "-mon chardev=libxl-cmd,mode=control "                                                                             \
    "-chardev socket,id=libxenstat-cmd,path=/var/run/xen/qmp-libxenstat-1,server=on,wait=off "                         \
    "-mon chardev=libxenstat-cmd,mode=control -nodefaults -no-user-config -name full-virt "

/* Section 1.9, word by word. */
static void test_observed_line(void **state)
{
    (void)state;
    supported(LIBXL
              "-vnc 127.0.0.1:0,to=99 -display none -serial file:/d/guest-serial.log -device cirrus-vga,vgamem_mb=8 "
              "-boot order=d -net none -machine xenfv,suppress-vmdesc=on -m 248 "
              "-drive if=none,readonly=on,id=ide-5632,file=/d/guest.iso,format=raw "
              "-device ide-cd,id=ide-5632,drive=ide-5632,bus=ide.1,unit=0");
    assert_int_equal(o.domid, 1);
    assert_true(o.no_shutdown);
    assert_false(o.start_paused);
    assert_int_equal(o.qmp_count, 2);
    assert_string_equal(o.qmp[0].id, "libxl-cmd");
    assert_string_equal(o.qmp[0].path, "/var/run/xen/qmp-libxl-1");
    assert_int_equal(o.qmp[0].fd, -1);
    assert_string_equal(o.qmp[1].path, "/var/run/xen/qmp-libxenstat-1");
    assert_string_equal(o.name, "full-virt");
    assert_true(o.vnc.enabled);
    assert_string_equal(o.vnc.text, "127.0.0.1:0,to=99");
    assert_string_equal(o.vnc.host, "127.0.0.1");
    assert_null(o.vnc.unix_path);
    assert_int_equal(o.vnc.display, 0);
    assert_int_equal(o.vnc.to, 99);
    assert_false(o.vnc.password);
    assert_true(o.vnc.exclusive_ok);
    assert_false(o.sdl.enabled);
    assert_string_equal(o.serials[0], "file:/d/guest-serial.log");
    assert_null(o.serials[1]);
    assert_int_equal(o.vga.kind, OPTION_VGA_CIRRUS);
    assert_int_equal(o.vga.vgamem_mb, 8);
    assert_int_equal(o.vga.devfn, 3 << 3);
    assert_string_equal(o.boot_order, "d");
    assert_true(o.net_none);
    assert_int_equal(o.nic_count, 0);
    assert_int_equal(o.machine, OPTION_MACHINE_XENFV);
    assert_true(o.xen_platform);
    assert_int_equal(o.xen_platform_devfn, 2 << 3);
    assert_int_equal(o.mem_mib, 248);
    assert_int_equal(o.vcpus_online, 1);
    assert_int_equal(o.vcpus_max, 1);
    assert_true(o.acpi);
    assert_int_equal(o.drive_count, 1);
    assert_string_equal(o.drives[0].id, "ide-5632");
    assert_string_equal(o.drives[0].drive_id, "ide-5632");
    assert_string_equal(o.drives[0].path, "/d/guest.iso");
    assert_string_equal(o.drives[0].format, "raw");
    assert_int_equal(o.drives[0].bus, OPTION_BUS_IDE);
    assert_int_equal(o.drives[0].index, 2);
    assert_true(o.drives[0].cdrom);
    assert_true(o.drives[0].readonly);
    assert_int_equal(o.incoming_fd, -1);
    assert_null(o.runas);
}

/* The rows of 1.3 that the observed line does not have, and 1.4, 1.5, 1.8. */
static void test_libxl_rows(void **state)
{
    (void)state;
    /* 3b, 31, 32, 40: restricted */
    good("-xen-domid 7 -no-shutdown -chardev socket,id=libxl-cmd,fd=19,server=on,wait=off -S -mon "
         "chardev=libxl-cmd,mode=control "
         "-xen-domid-restrict -chroot /var/run/xen/qemu-root-7 -incoming fd:24 -machine xenfv -m 248 -runas "
         "65543:65536");
    assert_true(o.start_paused);
    assert_null(o.qmp[0].path);
    assert_int_equal(o.qmp[0].fd, 19);
    assert_true(o.xen_domid_restrict);
    assert_string_equal(o.chroot_dir, "/var/run/xen/qemu-root-7");
    assert_int_equal(o.incoming_fd, 24);
    assert_true(o.runas_numeric);
    assert_int_equal(o.runas_uid, 65543);
    assert_int_equal(o.runas_gid, 65536);
    good("-xen-domid 7 -runas xen-qemuuser-shared");
    assert_string_equal(o.runas, "xen-qemuuser-shared");
    assert_false(o.runas_numeric);

    /* 7: channels are the chardevs that nothing else uses */
    good(LIBXL "-chardev pty,id=libxl-channel0 -chardev socket,id=libxl-channel1,path=/a,server=on,wait=off");
    assert_int_equal(o.chardev_count, 4);
    assert_true(o.chardevs[0].used);
    assert_false(o.chardevs[2].used);
    assert_int_equal(o.chardevs[2].kind, OPTION_CHARDEV_PTY);
    assert_string_equal(o.chardevs[3].id, "libxl-channel1");
    assert_string_equal(o.chardevs[3].path, "/a");

    /* 10 to 18 */
    supported("-xen-domid 1 -name a,b@c,,d -vnc none -display none -k en-us -nographic");
    assert_string_equal(o.name, "a,b c,,d");
    assert_false(o.vnc.enabled);
    assert_string_equal(o.keymap, "en-us");
    good("-xen-domid 1 -display none -display sdl -k de -kernel /k -initrd /i -append root=/dev/xvda@ro,x=1");
    assert_true(o.sdl.enabled);
    assert_string_equal(o.kernel, "/k");
    assert_string_equal(o.initrd, "/i");
    assert_string_equal(o.append, "root=/dev/xvda ro,x=1");
    supported("-xen-domid 1 -serial pty -serial null -serial none -serial tcp:127.0.0.1:4000,server=on,wait=off");
    assert_string_equal(o.serials[0], "pty");
    assert_string_equal(o.serials[1], "null");
    assert_null(o.serials[2]);
    assert_string_equal(o.serials[3], "tcp:127.0.0.1:4000,server=on,wait=off");

    /* 19, 20, 25 */
    good("-xen-domid 1 -spice port=6000,tls-port=0,addr=0.0.0.0,disable-ticketing=on,agent-mouse=on");
    assert_string_equal(o.spice, "port=6000,tls-port=0,addr=0.0.0.0,disable-ticketing=on,agent-mouse=on");
    good("-xen-domid 1 -device virtio-serial -chardev spicevmc,id=vdagent,name=vdagent "
         "-device virtserialport,chardev=vdagent,name=com.redhat.spice.0");
    assert_int_equal(o.other_count, 2);

    /* 21 */
    supported("-xen-domid 1 -device VGA,vgamem_mb=16");
    assert_int_equal(o.vga.kind, OPTION_VGA_STD);
    assert_int_equal(o.vga.vgamem_mb, 16);
    good("-xen-domid 1 -device qxl-vga,vram_size_mb=64,ram_size_mb=64");
    assert_int_equal(o.vga.kind, OPTION_VGA_QXL);
    supported("-xen-domid 1");
    assert_int_equal(o.vga.kind, OPTION_VGA_NONE);
    assert_string_equal(o.boot_order, "");

    /* 22, 27, 28 */
    supported("-xen-domid 1 -boot order=cda -no-acpi -smp 2,maxcpus=4");
    assert_string_equal(o.boot_order, "cda");
    assert_false(o.acpi);
    assert_int_equal(o.vcpus_online, 2);
    assert_int_equal(o.vcpus_max, 4);

    /* 23, 26 */
    supported("-xen-domid 1 -usb -usbdevice tablet -usbdevice keyboard");
    assert_true(o.usb);
    assert_int_equal(o.usb_device_count, 2);
    supported("-xen-domid 1 -device piix3-usb-uhci,id=usb"); /* usbversion=1 */
    assert_false(o.usb);
    supported("-xen-domid 1 -usb -device usb-tablet,bus=x.0,port=1.2 -device usb-hub,bus=usb-bus.0 -device piix3-usb-uhci,id=x");
    assert_string_equal(o.usb_devices[0].bus, "x.0");
    assert_string_equal(o.usb_devices[0].port, "1.2");
    assert_null(o.usb_devices[1].port);
    assert_string_equal(o.usb_devices[1].driver, "usb-hub");
    assert_string_equal(o.usb_devices[2].id, "x");
    assert_string_equal(o.usb_devices[0].driver, "usb-tablet");
    supported("-xen-domid 1 -device nec-usb-xhci,id=usb"); /* usbversion=3 */
    assert_int_equal(o.usb_devices[0].usb2_ports, 4);
    assert_int_equal(o.usb_devices[0].usb3_ports, 4);
    supported("-xen-domid 1 -device nec-usb-xhci,id=usb,p2=15,p3=1 -device usb-tablet,bus=usb.0,port=2 -device "
              "usb-kbd,bus=usb.0 -device usb-mouse -device usb-mouse,port=15");
    assert_int_equal(o.usb_devices[0].usb2_ports, 15);
    assert_int_equal(o.usb_devices[0].usb3_ports, 1);
    assert_string_equal(o.usb_devices[1].port, "2");
    assert_null(o.usb_devices[2].port);
    assert_string_equal(o.usb_devices[4].port, "15");
    good("-xen-domid 1 -device intel-hda -device hda-duplex -device ac97 -device sb16");
    assert_int_equal(o.sound_count, 4);
    assert_true(o.sounds[0].pci);
    assert_false(o.sounds[1].pci);

    /* 34 */
    supported("-xen-domid 1 -machine pc,accel=xen,suppress-vmdesc=on,max-ram-below-4g=3221225472");
    assert_int_equal(o.machine, OPTION_MACHINE_PC);
    assert_false(o.xen_platform);
    assert_int_equal(o.max_ram_below_4g, 3221225472u);
    good("-xen-domid 1 -machine xenfv,suppress-vmdesc=on,igd-passthru=on");
    assert_true(o.igd_passthru);

    /* 39 */
    good("-xen-domid 1 -device xen-pvdevice,device-id=0xc000");
    assert_true(o.pvdevice.present);
    assert_int_equal(o.pvdevice.device_id, 0xc000);
    assert_int_equal(o.pvdevice.vendor_id, 0x5853);
}

static void assert_drive(unsigned i, enum option_bus bus, unsigned index, const char *id, const char *path, bool cdrom)
{
    assert_true(i < o.drive_count);
    assert_int_equal(o.drives[i].bus, bus);
    assert_int_equal(o.drives[i].index, index);
    assert_string_equal(o.drives[i].id, id);
    if (path) {
        assert_string_equal(o.drives[i].path, path);
    } else {
        assert_null(o.drives[i].path);
    }
    assert_int_equal(o.drives[i].cdrom, cdrom);
}

static void test_libxl_disks(void **state)
{
    (void)state;
    supported("-xen-domid 1 -drive file=/a,,b.img,if=ide,index=0,media=disk,format=raw,cache=writeback "
              "-drive if=none,readonly=on,id=ide-5632 -device ide-cd,id=ide-5632,drive=ide-5632,bus=ide.1,unit=0");
    assert_int_equal(o.drive_count, 2);
    assert_drive(0, OPTION_BUS_IDE, 0, "ide0-hd0", "/a,b.img", false);
    assert_false(o.drives[0].readonly);
    assert_drive(1, OPTION_BUS_IDE, 2, "ide-5632", NULL, true);

    /* forward references: -device before its -drive, ahci disks before and after the controller */
    good("-xen-domid 1 -device ide-hd,bus=ahci0.3,unit=0,drive=ahcidisk-3 -device ahci,id=ahci0 "
         "-drive file=/x,if=none,id=ahcidisk-3,format=qcow2,cache=writeback "
         "-device ide-cd,id=ide-832,drive=ide-832,bus=ide.0,unit=1 -drive "
         "if=none,readonly=on,id=ide-832,file=/c.iso,format=raw");
    assert_true(o.ahci.present);
    assert_string_equal(o.ahci.id, "ahci0");
    assert_drive(0, OPTION_BUS_AHCI, 3, "ahcidisk-3", "/x", false);
    assert_string_equal(o.drives[0].format, "qcow2");
    assert_drive(1, OPTION_BUS_IDE, 1, "ide-832", "/c.iso", true);

    good("-xen-domid 1 -device lsi53c895a -drive file=/s,id=scsi0-hd1,format=raw,if=none,readonly=on,cache=writeback "
         "-device scsi-hd,drive=scsi0-hd1,scsi-id=1");
    assert_true(o.scsi.present);
    assert_drive(0, OPTION_BUS_SCSI, 1, "scsi0-hd1", "/s", false);
    assert_true(o.drives[0].readonly);
}

static void test_libxl_nics(void **state)
{
    static const uint8_t mac[6] = {0x00, 0x16, 0x3e, 0x12, 0xab, 0xff};

    (void)state;
    good("-xen-domid 3 -machine xenfv -device VGA -device rtl8139,id=nic0,netdev=net0,mac=00:16:3e:12:ab:ff "
         "-netdev type=tap,id=net0,ifname=vif3.0-emu,br=xenbr0,script=no,downscript=no "
         "-device e1000,id=nic1,netdev=net1,mac=00:16:3e:00:00:02 "
         "-netdev type=tap,id=net1,ifname=vif3.1-emu,br=xenbr0,script=no,downscript=no");
    assert_int_equal(o.nic_count, 2);
    assert_string_equal(o.nics[0].model, "rtl8139");
    assert_string_equal(o.nics[0].id, "nic0");
    assert_string_equal(o.nics[0].ifname, "vif3.0-emu");
    assert_int_equal(o.nics[0].tap_fd, -1);
    assert_memory_equal(o.nics[0].mac, mac, 6);
    assert_int_equal(o.nics[0].devfn, 4 << 3);
    assert_string_equal(o.nics[1].model, "e1000");
    assert_string_equal(o.nics[1].ifname, "vif3.1-emu");
    assert_int_equal(o.nics[1].devfn, 5 << 3);
    assert_null(o.nics[0].dump_path);

    good("-xen-domid 3 -device rtl8139,netdev=net0 -device e1000,netdev=net1,romfile= -netdev tap,id=net0,ifname=a -netdev tap,id=net1,ifname=b "
         "-object filter-dump,id=f0,netdev=net1,file=/tmp/x.pcap,maxlen=100");
    assert_null(o.nics[0].romfile);
    assert_string_equal(o.nics[1].romfile, "");
    assert_null(o.nics[0].dump_path);
    assert_string_equal(o.nics[1].dump_path, "/tmp/x.pcap");
}

/* Section 1.6: lsi before VGA before USB, sound, NICs, AHCI, pvdevice; xen-platform at 2; given addresses stay free. */
static void test_pci_slots(void **state)
{
    (void)state;
    good("-xen-domid 1 -device lsi53c895a -device VGA -device nec-usb-xhci,id=usb -device ac97 -device rtl8139 -device "
         "e1000 "
         "-machine xenfv -device ahci,id=ahci0 -device xen-pvdevice,device-id=0xc000");
    assert_int_equal(o.xen_platform_devfn, 2 << 3);
    assert_int_equal(o.scsi.devfn, 3 << 3);
    assert_int_equal(o.vga.devfn, 4 << 3);
    assert_int_equal(o.usb_devices[0].devfn, 5 << 3);
    assert_int_equal(o.sounds[0].devfn, 6 << 3);
    assert_int_equal(o.nics[0].devfn, 7 << 3);
    assert_int_equal(o.nics[1].devfn, 8 << 3);
    assert_int_equal(o.ahci.devfn, 9 << 3);
    assert_int_equal(o.pvdevice.devfn, 10 << 3);
    assert_int_equal(o.nics[1].mac[5], 0x57);

    /* usbversion=2 */
    good("-xen-domid 1 -device VGA -device ich9-usb-ehci1,id=usb,addr=0x1d.0x7,multifunction=on "
         "-device ich9-usb-uhci1,masterbus=usb.0,firstport=0,addr=0x1d.0,multifunction=on "
         "-device ich9-usb-uhci2,masterbus=usb.0,firstport=2,addr=0x1d.0x1,multifunction=on "
         "-device ich9-usb-uhci3,masterbus=usb.0,firstport=4,addr=0x1d.0x2,multifunction=on -machine pc,accel=xen");
    assert_int_equal(o.vga.devfn, 2 << 3); /* no xen-platform */
    assert_int_equal(o.usb_devices[0].devfn, 0x1d << 3 | 7);
    assert_int_equal(o.usb_devices[3].devfn, 0x1d << 3 | 2);
    assert_int_equal(o.usb_devices[3].firstport, 4);
    assert_string_equal(o.usb_devices[3].masterbus, "usb.0");
    supported("-xen-domid 1 -device ich9-usb-ehci1,id=usb,addr=0x1d.0x7,multifunction=on -device "
              "ich9-usb-uhci2,masterbus=usb.0,firstport=2,addr=0x1d.0x1,multifunction=on -device usb-tablet,bus=usb.0,port=2 "
              "-device usb-kbd -device usb-mouse,bus=usb.0 -device usb-ehci,id=x -device usb-kbd,bus=x.0,port=6");
    assert_string_equal(o.usb_devices[2].port, "2");
    assert_string_equal(o.usb_devices[6].bus, "x.0");

    /* -vga is made by the machine, before xen-platform; -net nic too */
    supported("-xen-domid 1 -vga cirrus -machine xenfv");
    assert_int_equal(o.vga.kind, OPTION_VGA_CIRRUS);
    assert_int_equal(o.vga.devfn, 2 << 3);
    assert_int_equal(o.xen_platform_devfn, 3 << 3);
    good("-xen-domid 1 -vga std -net nic,model=e1000,macaddr=00:16:3e:00:00:01 -net tap,ifname=tap0,script=no -device "
         "rtl8139");
    assert_int_equal(o.nics[0].devfn, 3 << 3);
    assert_string_equal(o.nics[0].ifname, "tap0");
    assert_int_equal(o.xen_platform_devfn, 4 << 3);
    assert_int_equal(o.nics[1].devfn, 5 << 3);

    /* XAPI's explicit places */
    supported("-xen-domid 1 -machine pc,accel=xen -device xen-platform,addr=3 -device VGA,vgamem_mb=8,addr=2");
    assert_true(o.xen_platform);
    assert_int_equal(o.xen_platform_devfn, 3 << 3);
    assert_int_equal(o.vga.devfn, 2 << 3);
    good("-xen-domid 1 -device e1000,addr=02 -device VGA -machine pc");
    assert_int_equal(o.vga.devfn, 3 << 3);
}

/* QEMU's other spellings of what we emulate. */
static void test_spellings(void **state)
{
    static const struct {
        const char *line;
        unsigned index;
        const char *id, *path;
        bool cdrom;
    } drives[] = {
        {"-cdrom /c.iso", 2, "ide1-cd0", "/c.iso", true},
        {"--cdrom /c,d.iso", 2, "ide1-cd0", "/c,d.iso", true},
        {"-hda /a", 0, "ide0-hd0", "/a", false},
        {"-hdb /a", 1, "ide0-hd1", "/a", false},
        {"-hdc /a", 2, "ide1-hd0", "/a", false},
        {"-hdd /a", 3, "ide1-hd1", "/a", false},
        {"-drive file=/a", 0, "ide0-hd0", "/a", false},
        {"-drive if=ide,index=1,media=cdrom", 1, "ide0-cd1", NULL, true},
        {"-drive if=ide,bus=1,unit=1,media=cdrom,file=/a,id=mine", 3, "mine", "/a", true},
        {"-drive if=ide,bus=1,file=/a,read-only=off,aio=native,discard=unmap,detect-zeroes=off", 2, "ide1-hd0", "/a",
         false},
        {"-drive file=,if=ide,media=cdrom", 0, "ide0-cd0", NULL, true},
        {"-drive if=none,id=d,file=/a,auto-read-only=off -device ide-hd,drive=d", 0, "d", "/a", false},
        {"-drive if=none,id=d,file=/a -device ide-hd,drive=d,id=dev,bus=ide.1", 2, "dev", "/a", false},
        {"-drive if=none,id=d,file=/a -device driver=ide-hd,drive=d,unit=1", 1, "d", "/a", false},
        {"-device ide-cd,id=ide0-cd1,bus=ide.0,unit=1", 1, "ide0-cd1", NULL, true},
        {"-device ide-cd", 0, "ide0-cd0", NULL, true},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(drives) / sizeof(drives[0]); i++) {
        char line[256];

        snprintf(line, sizeof(line), "-xen-domid 1 %s", drives[i].line);
        supported(line);
        assert_int_equal(o.drive_count, 1);
        assert_drive(0, OPTION_BUS_IDE, drives[i].index, drives[i].id, drives[i].path, drives[i].cdrom);
    }
    /* a given place is kept free whatever the order */
    supported("-xen-domid 1 -drive file=/b -hda /a -device ide-cd -cdrom /c");
    assert_drive(0, OPTION_BUS_IDE, 0, "ide0-hd0", "/a", false);
    assert_drive(1, OPTION_BUS_IDE, 2, "ide1-cd0", "/c", true);
    assert_drive(2, OPTION_BUS_IDE, 1, "ide0-hd1", "/b", false);
    assert_drive(3, OPTION_BUS_IDE, 3, "ide1-cd1", NULL, true);
    supported("-xen-domid 1 -drive if=none,id=d,file=/a -device ide-hd,drive=d,serial=QM00001");
    assert_string_equal(o.drives[0].serial, "QM00001");
    good("-xen-domid 1 -drive file=/a,cache=directsync");
    assert_true(o.drives[0].writethrough);
    assert_true(o.drives[0].direct);
    supported("-xen-domid 1 -drive file=/a,cache=unsafe");
    assert_true(o.drives[0].no_flush);

    supported("-xen-domid 0x10 -qmp unix:/run/q,server,nowait -monitor none -parallel null -S");
    assert_int_equal(o.domid, 16);
    assert_string_equal(o.qmp[0].path, "/run/q");
    supported("-xen-domid 1 -qmp unix:/run/q,server=on,wait=off -qmp unix:/run/r,server,wait=no");
    assert_int_equal(o.qmp_count, 2);
    supported("-xen-domid 1 -chardev socket,path=/q,id=a,server,nowait -mon a,mode=control,pretty=off");
    assert_string_equal(o.qmp[0].path, "/q");
    supported("-xen-domid 1 -chardev pty,id=s -serial chardev:s -chardev "
              "socket,id=t,host=localhost,port=99,server=on,wait=off "
              "-device isa-serial,chardev=t");
    assert_string_equal(o.serials[0], "pty");
    assert_string_equal(o.serials[1], "tcp:localhost:99,server=on,wait=off");
    supported("-xen-domid 1 -chardev file,id=s,path=/log -device isa-serial,chardev=s,index=1");
    assert_null(o.serials[0]);
    assert_string_equal(o.serials[1], "file:/log");

    supported("-xen-domid 1 -m size=248M");
    assert_int_equal(o.mem_mib, 248);
    supported("-xen-domid 1 -m 1G");
    assert_int_equal(o.mem_mib, 1024);
    supported("-xen-domid 1 -m 1025k");
    assert_int_equal(o.mem_mib, 2);
    supported("-xen-domid 1 -smp cpus=3,maxcpus=8");
    assert_int_equal(o.vcpus_online, 3);
    assert_int_equal(o.vcpus_max, 8);
    supported("-xen-domid 1 -smp 4,sockets=1,cores=4,threads=1");
    assert_int_equal(o.vcpus_max, 4);
    supported("-xen-domid 1 -boot dc");
    assert_string_equal(o.boot_order, "dc");
    supported("-xen-domid 1 -boot menu=on,order=n,strict=off");
    assert_string_equal(o.boot_order, "n");
    supported("-xen-domid 1 -M pc-i440fx-2.10 -accel xen -rtc base=utc,clock=host");
    assert_int_equal(o.machine, OPTION_MACHINE_PC);
    supported("-xen-domid 1 -machine type=xenfv,graphics=off,acpi=off");
    assert_false(o.acpi);
    supported("-xen-domid 1 -name guest=g1,debug-threads=on");
    assert_string_equal(o.name, "g1");
    supported("-xen-domid 1 -vga none -device cirrus-vga -global cirrus-vga.vgamem_mb=16");
    assert_int_equal(o.vga.vgamem_mb, 16);
    supported("-xen-domid 1 -nic none -display vnc=:3 -uuid 12345678-1234-1234-1234-123456789abc -L /f");
    assert_true(o.net_none);
    assert_int_equal(o.vnc.display, 3);
    assert_string_equal(o.vnc.host, "");
    assert_string_equal(o.firmware_dir, "/f");
    good("-xen-domid 1 -nic tap,ifname=t0,model=e1000,mac=00:16:3e:00:00:09,script=no,downscript=no");
    assert_string_equal(o.nics[0].ifname, "t0");
    assert_int_equal(o.nics[0].mac[5], 9);
    good("-xen-domid 1 -netdev tap,id=n,fd=12 -device virtio-net-pci,netdev=n");
    assert_int_equal(o.nics[0].tap_fd, 12);
    good("-xen-domid 1 -soundhw hda -sandbox on,spawn=deny");
    assert_string_equal(o.sounds[0].model, "intel-hda");
    assert_true(o.sandbox);
    good("-xen-domid 1 -machine xenfv,usb=on");
    assert_true(o.usb);
}

static void test_sdl_forms(void **state)
{
    (void)state;
    supported("-xen-domid 1 -vnc 127.0.0.1:0,to=99 -display none -display sdl");
    assert_true(o.sdl.enabled);
    assert_true(o.vnc.enabled);
    assert_true(o.sdl.window_close);
    assert_false(o.sdl.full_screen || o.full_screen || o.sdl.show_cursor);
    assert_null(o.sdl.grab_mod);
    supported("-xen-domid 1 -sdl -full-screen");
    assert_true(o.sdl.enabled);
    assert_true(o.full_screen);
    supported("-xen-domid 1 -display sdl,gl=off,grab-mod=rctrl,full-screen=on,window-close=off,show-cursor=on");
    assert_string_equal(o.sdl.grab_mod, "rctrl");
    assert_true(o.sdl.full_screen);
    assert_false(o.sdl.window_close);
    assert_true(o.sdl.show_cursor);
    supported("-xen-domid 1 -display type=sdl");
    assert_true(o.sdl.enabled);
    good("-xen-domid 1 -display sdl -display none");
    assert_false(o.sdl.enabled);
    good("-xen-domid 1 -sdl -nographic");
    assert_false(o.sdl.enabled);
}

static void test_vnc_forms(void **state)
{
    static const struct {
        const char *value, *host, *unix_path;
        int display, to;
        bool password;
    } rows[] = {
        {"127.0.0.1:0,to=99", "127.0.0.1", NULL, 0, 99, false},
        {"0.0.0.0:5,password=on", "0.0.0.0", NULL, 5, -1, true},
        {"127.0.0.1:0,password=on,to=99", "127.0.0.1", NULL, 0, 99, true},
        {":1,password", "", NULL, 1, -1, true},
        {"[::1]:2", "::1", NULL, 2, -1, false},
        {"::1:2", "::1", NULL, 2, -1, false},
        {"localhost:59635", "localhost", NULL, 59635, -1, false},
        {"unix:/run/vnc,lock-key-sync=off", NULL, "/run/vnc", 0, -1, false},
        {":0,share=force-shared,ipv4,noipv6,lossy=on", "", NULL, 0, -1, false},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        char line[128];

        snprintf(line, sizeof(line), "-xen-domid 1 -vnc none -vnc %s", rows[i].value);
        supported(line);
        assert_true(o.vnc.enabled);
        assert_int_equal(o.vnc.display, rows[i].display);
        assert_int_equal(o.vnc.to, rows[i].to);
        assert_int_equal(o.vnc.password, rows[i].password);
        if (rows[i].host) {
            assert_string_equal(o.vnc.host, rows[i].host);
        }
        if (rows[i].unix_path) {
            assert_string_equal(o.vnc.unix_path, rows[i].unix_path);
        }
    }
    assert_true(o.vnc.force_shared);
    assert_true(o.vnc.ipv4);
    assert_false(o.vnc.ipv6);
}

#define D "-xen-domid 1 "

/* Lines that are refused when they are read. */
static const struct {
    const char *line, *message;
} bad_lines[] = {
    {"", "-xen-domid: missing; hvm-dm is started by xl (device_model_override=), see -help"},
    {D "-foo", "-foo: unknown option; see -help for what is known"},
    {D "--foo", "-foo: unknown option; see -help for what is known"},
    {D "-no-shutdow", "-no-shutdow: unknown option; see -help for what is known"},
    {D "disk.img", "disk.img: not an option; disks are given with -drive or -cdrom, see -help"},
    {D "~", "'': not an option; disks are given with -drive or -cdrom, see -help"},
    {D "-", "-: not an option; disks are given with -drive or -cdrom, see -help"},
    {D "-m", "-m: the argument is missing (MIB)"},
    {D "-vnc", "-vnc: the argument is missing (HOST:DISPLAY[,to=N][,password=on])"},
    {"-xen-domid 0", "-xen-domid: bad domain id '0'; it must be a number from 1 to 32751"},
    {"-xen-domid 32752", "-xen-domid: bad domain id '32752'; it must be a number from 1 to 32751"},
    {"-xen-domid -1", "-xen-domid: bad domain id '-1'; it must be a number from 1 to 32751"},
    {"-xen-domid 1x", "-xen-domid: bad domain id '1x'; it must be a number from 1 to 32751"},
    {D "-daemonize", "-daemonize: not possible, libxl has to know the process; leave it out"},
    {D "-enable-kvm", "-enable-kvm: not possible, hvm-dm serves Xen guests; leave it out"},
    {D "-xen-attach", "-xen-attach: PV guests are not served; use this device model for HVM guests only"},
    {D "-D /log", "-D: not supported; the log is stderr, redirect that"},
    {D "-pidfile /p", "-pidfile: not supported; libxl records the process id in xenstore, leave it out"},
    {D "-cpu host", "-cpu: CPUs belong to Xen; use cpuid= in the guest's config"},
    {D "-name guest=a,foo=b", "-name: unknown key 'foo' in 'guest=a,foo=b'; known: guest process debug-threads"},
    {D "-m 0", "-m: bad size '0'; it must be MiB, or a number with K, M, G or T, up to 16T"},
    {D "-m 12Q", "-m: bad size '12Q'; it must be MiB, or a number with K, M, G or T, up to 16T"},
    {D "-m 99999999999999999999",
     "-m: bad size '99999999999999999999'; it must be MiB, or a number with K, M, G or T, up to 16T"},
    {D "-m 18014398509481985",
     "-m: bad size '18014398509481985'; it must be MiB, or a number with K, M, G or T, up to 16T"},
    {D "-m 128,slots=2", "-m: bad value slots=2; it must be 0"},
    {D "-m maxmem=4G", "-m: unknown key 'maxmem' in 'maxmem=4G'; known: size slots"},
    {D "-smp 0", "-smp: bad value cpus=0; it must be a number from 1 to 128"},
    {D "-smp 129", "-smp: bad value cpus=129; it must be a number from 1 to 128"},
    {D "-smp 4,maxcpus=2", "-smp: 4 CPUs are more than maxcpus=2"},
    {D "-smp sockets=2", "-smp: cpus= is missing in 'sockets=2'"},
    {D "-boot x", "-boot: bad letter 'x' in order 'x'; use a (floppy), c (disk), d (CD) and n (network)"},
    {D "-boot order=cdc", "-boot: letter 'c' is twice in order 'cdc'"},
    {D "-boot once=d",
     "-boot: unknown key 'once' in 'once=d'; known: order menu strict splash splash-time reboot-timeout"},
    {D "-machine q35", "-machine: machine 'q35' is not supported; use xenfv, or pc for one without xen-platform"},
    {D "-M xenpv", "-M: machine 'xenpv' is not supported; use xenfv, or pc for one without xen-platform"},
    {D "-machine pc,accel=kvm", "-machine: bad value accel=kvm; it must be xen"},
    {D "-machine xenfv,max-ram-below-4g=8G",
     "-machine: bad value max-ram-below-4g=8G; it must be a size from 1048576 to 4294967295 bytes (suffix K, M, G)"},
    {D "-machine xenfv,igd-passthru=maybe", "-machine: bad value igd-passthru=maybe; it must be on or off"},
    {D "-accel tcg", "-accel: 'tcg' is not possible; hvm-dm serves Xen guests"},
    {D "-rtc base=localtime",
     "-rtc: the clock belongs to Xen; put localtime=1 into the guest's config instead of base=localtime"},
    {D "-global foo.bar=1", "-global: property 'foo.bar=1' is not known; known: VGA.vgamem_mb cirrus-vga.vgamem_mb"},
    {D "-k ../../x", "-k: bad keyboard layout '../../x'; it must be a name like en-us"},
    {D "-uuid 123", "-uuid: bad UUID '123'"},
    {D "-incoming tcp:0:4444", "-incoming: bad source 'tcp:0:4444'; it must be fd:NUMBER"},
    {D "-incoming fd:-1", "-incoming: bad source 'fd:-1'; it must be fd:NUMBER"},
    {D "-runas 0:0", "-runas: bad user '0:0'; it must be a name or UID:GID, and not root"},
    {D "-runas 12:", "-runas: bad user '12:'; it must be a name or UID:GID, and not root"},
    {D "-runas ~", "-runas: the user name is empty"},
    {D "-chroot ~", "-chroot: the argument is empty"},
    {D "-append x", "-append: needs -kernel"},
    {D "-initrd x", "-initrd: needs -kernel"},
    {D "-display sdl,gl=on", "-display: bad value gl=on; it must be off"},
    {D "-display sdl,gl=es", "-display: bad value gl=es; it must be off"},
    {D "-display sdl,grab-mod=alt", "-display: bad value grab-mod=alt; it must be lctrl-lalt|lshift-lctrl-lalt|rctrl"},
    {D "-display sdl,window-close=never", "-display: bad value window-close=never; it must be on or off"},
    {D "-display sdl,frame=off", "-display: unknown key 'frame' in 'sdl,frame=off'; known: type gl grab-mod full-screen "
                             "window-close show-cursor"},
    {D "-display sdlx", "-display: 'sdlx' is not supported; use none, sdl or vnc=HOST:DISPLAY"},
    {D "-display gtk", "-display: 'gtk' is not supported; use none, sdl or vnc=HOST:DISPLAY"},
    {D "-monitor stdio",
     "-monitor: there is no human monitor; use -monitor none, and -qmp unix:PATH,server=on,wait=off"},
    {D "-parallel pty", "-parallel: there is no parallel port; use none"},
    {D "-vga tcx", "-vga: unknown adapter 'tcx'; use std, cirrus or none"},
    /* VNC */
    {D "-vnc ~", "-vnc: no address in ''; write HOST:DISPLAY, unix:PATH or none"},
    {D "-vnc ,to=99", "-vnc: no address in ',to=99'; write HOST:DISPLAY, unix:PATH or none"},
    {D "-vnc 127.0.0.1", "-vnc: no display number in '127.0.0.1'; write HOST:DISPLAY, for example 127.0.0.1:0"},
    {D "-vnc 127.0.0.1:x", "-vnc: bad display 'x' in '127.0.0.1:x'; it must be a number from 0 to 59635"},
    {D "-vnc :59636", "-vnc: bad display '59636' in ':59636'; it must be a number from 0 to 59635"},
    {D "-vnc :5,to=4", "-vnc: to=4 is below display 5; it is the last display to try"},
    {D "-vnc :0,to=99999", "-vnc: bad value to=99999; it must be a number from 0 to 59635"},
    {D "-vnc :0,websocket=on", "-vnc: unknown key 'websocket' in ':0,websocket=on'; known: vnc to password share ipv4 "
                               "ipv6 lock-key-sync key-delay-ms lossy "
                               "non-adaptive reverse sasl power-control"},
    {D "-vnc :0,reverse=on", "-vnc: bad value reverse=on; it must be off"},
    {D "-vnc :0 -vnc :1", "-vnc: given twice (':0' and ':1'); one server is supported"},
    {D "-vnc unix:", "-vnc: no path in 'unix:'"},
    {D "-vnc unix:/a,to=1", "-vnc: to= has no meaning for a unix socket"},
    /* chardevs and monitors */
    {D "-chardev foo,id=x", "-chardev: unknown kind 'foo'; use socket, pty, file, null or stdio"},
    {D "-chardev id=x", "-chardev: unknown kind 'id=x'; use socket, pty, file, null or stdio"},
    {D "-chardev pty", "-chardev: id= is missing in 'pty'"},
    {D "-chardev pty,id=a -chardev pty,id=a", "-chardev: id 'a' is used twice"},
    {D "-chardev pty,id=a,foo=1", "-chardev: unknown key 'foo' in 'pty,id=a,foo=1'; known: backend id"},
    {D "-chardev socket,id=a", "-chardev: socket 'a' needs exactly one of path=, host= with port=, and fd="},
    {D "-chardev socket,id=a,path=/a,fd=1",
     "-chardev: socket 'a' needs exactly one of path=, host= with port=, and fd="},
    {D "-chardev socket,id=a,host=b,fd=1", "-chardev: socket 'a' has host= without port="},
    {D "-chardev socket,id=a,fd=-1", "-chardev: bad value fd=-1; it must be a number from 0 to 2147483647"},
    {D "-chardev socket,id=a,path=", "-chardev: bad value path=; it must be a text that is not empty"},
    {D "-chardev socket,id=a,path", "-chardev: key 'path' needs a value (path=...)"},
    {D "-chardev socket,id=a,path=/p,server=maybe", "-chardev: bad value server=maybe; it must be on or off"},
    {D "-chardev "
       "socket,id=a,path=/"
       "12345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567",
     "-chardev: socket path '/123456789012345678901234567890123456789...' is 108 bytes long; the system's limit is "
     "107"},
    {D "-chardev file,id=a", "-chardev: path= is missing in 'file,id=a'"},
    {D "-mon mode=control", "-mon: chardev= is missing in 'mode=control'"},
    {D "-mon a", "-mon: there is no human monitor; add mode=control for QMP to 'a'"},
    {D "-mon a,mode=control", "-mon: chardev 'a' does not exist; add -chardev socket,id=a,path=..."},
    {D "-chardev pty,id=a -mon a,mode=control", "-mon: chardev 'a' is not a unix socket; QMP needs one"},
    {D "-chardev socket,id=a,host=x,port=1,server,nowait -mon a,mode=control",
     "-mon: chardev 'a' is not a unix socket; QMP needs one"},
    {D "-chardev socket,id=a,path=/a -mon a,mode=control", "-mon: chardev 'a' needs server=on,wait=off"},
    {D "-chardev socket,id=a,path=/a,server -mon a,mode=control", "-mon: chardev 'a' needs server=on,wait=off"},
    {D "-chardev socket,id=a,path=/a,server,nowait -mon a,mode=control -mon a,mode=control",
     "-mon: chardev 'a' is used twice"},
    {D "-qmp tcp:localhost:4444,server",
     "-qmp: 'tcp:localhost:4444,server' is not supported; use unix:PATH,server=on,wait=off"},
    {D "-qmp unix:/q", "-mon: chardev 'compat_monitor0' needs server=on,wait=off"},
    {D "-serial telnet::1",
     "-serial: 'telnet::1' is not supported; use pty, file:PATH, tcp:HOST:PORT, unix:PATH, stdio or null"},
    {D "-serial file:",
     "-serial: 'file:' is not supported; use pty, file:PATH, tcp:HOST:PORT, unix:PATH, stdio or null"},
    {D "-serial null -serial null -serial null -serial null -serial null", "-serial: a PC has 4 serial ports"},
    {D "-serial chardev:x", "-serial: chardev 'x' does not exist; add -chardev ...,id=x"},
    {D "-device isa-serial", "-device: isa-serial: chardev= is missing"},
    {D "-serial null -device isa-serial,chardev=a,index=0", "-device: isa-serial: serial port 0 is taken"},
    /* devices */
    {D "-device foo", "-device: unknown device 'foo'"},
    {D "-device id=x", "-device: unknown device 'id=x'"},
    {D "-device ide-cd,foo=1", "-device: unknown key 'foo' in 'ide-cd,foo=1'; known: driver id drive bus unit serial"},
    {D "-device ide-cd,bootindex=1", "-device: ide-cd: bootindex= is not possible under Xen; use -boot order=LETTERS"},
    {D "-device ide-cd,id=a -device ide-cd,id=a", "-device: id 'a' is used twice"},
    {D "-device ide-cd,", "-device: empty key in 'ide-cd,'; a comma inside a value is written ,,"},
    {D "-device ide-cd,=1", "-device: empty key in 'ide-cd,=1'; a comma inside a value is written ,,"},
    {D "-device VGA,vgamem_mb=0", "-device: bad value vgamem_mb=0; it must be a number from 1 to 256"},
    {D "-device VGA,vgamem_mb=12",
     "-device: VGA: bad value vgamem_mb=12; it must be a power of two (videoram= in the guest's config)"},
    {D "-device cirrus-vga,vgamem_mb=32", "-device: cirrus-vga: bad value vgamem_mb=32; a Cirrus adapter has 4, 8 or "
                                          "16 MiB (videoram= in the guest's config)"},
    {D "-device VGA -device cirrus-vga", "-device: cirrus-vga: there already is a graphics adapter (VGA)"},
    {D "-device VGA,addr=20",
     "-device: VGA: bad addr '20'; it must be SLOT or SLOT.FUNCTION in hexadecimal, 0 to 1f and 0 to 7"},
    {D "-device VGA,addr=2.8",
     "-device: VGA: bad addr '2.8'; it must be SLOT or SLOT.FUNCTION in hexadecimal, 0 to 1f and 0 to 7"},
    {D "-device VGA,addr=-1",
     "-device: VGA: bad addr '-1'; it must be SLOT or SLOT.FUNCTION in hexadecimal, 0 to 1f and 0 to 7"},
    {D "-device VGA,addr=1", "-device: VGA: PCI address 01.0 is taken"},
    {D "-device VGA,addr=1.3", "-device: VGA: PCI address 01.3 is taken"},
    {D "-device VGA,addr=5 -device e1000,addr=5", "-device: e1000: PCI address 05.0 is taken"},
    {D "-device xen-platform -machine xenfv",
     "-device: xen-platform: the machine already has one; use -machine pc to place it yourself"},
    {D "-device xen-pvdevice", "-device: xen-pvdevice: device-id= is missing"},
    {D "-device ahci -device ahci", "-device: ahci: one such controller is supported"},
    {D "-device nec-usb-xhci,id=u,p2=16", "-device: bad value p2=16; it must be a number from 1 to 15"},
    {D "-usbdevice host:1.2", "-usbdevice: unknown device 'host:1.2'; use tablet, mouse or keyboard"},
    {D "-soundhw beep", "-soundhw: unknown sound card 'beep'; use hda, ac97, es1370, sb16, adlib, gus or cs4231a"},
    /* drives */
    {D "-drive file=/a,foo=1",
     "-drive: unknown key 'foo' in 'file=/a,foo=1'; known: file if id index bus unit media format readonly read-only "
     "cache "
     "auto-read-only aio discard detect-zeroes snapshot copy-on-read werror rerror file.locking"},
    {D "-drive file=/a,b.img",
     "-drive: unknown key 'b.img' in 'file=/a,b.img' (a comma inside a value is written ,,); known: file if id index "
     "bus unit media format readonly read-only cache auto-read-only aio discard detect-zeroes snapshot copy-on-read "
     "werror rerror file.locking"},
    {D "-drive file=/a,if=usb", "-drive: bad value if=usb; it must be none|ide|scsi|floppy|virtio|sd|pflash|mtd|xen"},
    {D "-drive file=/a,index=4", "-drive: index 4 of '/a' is not an IDE place; use 0 to 3"},
    {D "-drive file=/a,index=99", "-drive: bad value index=99; it must be a number from 0 to 15"},
    {D "-drive file=/a,index=1,bus=0",
     "-drive: index= together with bus= or unit= in 'file=/a,index=1,bus=0'; use one of them"},
    {D "-drive file=/a,bus=2", "-drive: '/a' is on ide.2 unit 0; there are ide.0 and ide.1 with units 0 and 1"},
    {D "-drive file=/a,snapshot=on", "-drive: bad value snapshot=on; it must be off"},
    {D "-drive if=ide,index=0", "-drive: disk 'ide0-hd0' has no file=; only a CD drive can be empty"},
    {D "-drive file=/a,readonly=on",
     "-drive: disk 'ide0-hd0' is read-only, which an ATA disk cannot be; make it a CD drive or drop readonly=on"},
    {D "-hda /a -drive file=/b,index=0,id=x", "-drive: 'ide0-hd0' and 'x' are both the IDE primary master (index 0)"},
    {D "-cdrom /a -cdrom /b", "-cdrom: 'ide1-cd0' and 'ide1-cd0' are both the IDE secondary master (index 2)"},
    {D "-cdrom ~", "-cdrom: the file name is empty"},
    {D "-hda /a -hdb /b -hdc /c -hdd /d -drive file=/e", "-drive: no free IDE place for '/e'; there are four"},
    {D "-drive if=none,id=a,file=/a -drive if=none,id=a,file=/b", "-drive: id 'a' is used twice"},
    {D "-drive if=none,id=a,file=/a",
     "-drive: drive 'a' has if=none and no -device uses it; add -device ide-hd,drive=a"},
    {D "-device ide-hd,drive=x", "-device: ide-hd: drive 'x' does not exist; add -drive if=none,id=x,..."},
    {D "-device ide-hd", "-device: disk 'ide0-hd0' has no file=; only a CD drive can be empty"},
    {D "-drive id=a,file=/a -device ide-hd,drive=a",
     "-device: drive 'a' has if=ide; a drive for -device ide-hd needs if=none"},
    {D "-drive if=none,id=a,file=/a -device ide-hd,drive=a -device ide-hd,drive=a",
     "-device: drive 'a' is used by two devices"},
    {D "-device ide-cd,id=x,bus=ide.2,unit=0",
     "-device: 'x' is on ide.2 unit 0; there are ide.0 and ide.1 with units 0 and 1"},
    {D "-device ide-cd,bus=sata.0", "-device: ide-cd: bus 'sata.0' does not exist; use ide.0 or ide.1"},
    {D "-device ide-cd,unit=2", "-device: bad value unit=2; it must be a number from 0 to 1"},
    {D "-device ahci,id=ahci0 -device ide-cd,id=x,bus=ahci0.0,unit=1", "-device: 'x': a SATA port has unit 0 only"},
    {D "-drive if=none,id=a,file=/a -device ide-hd,drive=a,serial=123456789012345678901",
     "-device: serial '123456789012345678901' of 'a' is longer than 20 characters"},
    {D "-drive if=none,id=a,file=/a -device scsi-hd,drive=a,scsi-id=1",
     "-device: scsi-hd needs a SCSI controller; add -device lsi53c895a before it"},
    /* network */
    {D "-net user", "-net: 'user' is not supported; use none, nic or tap"},
    {D "-netdev user,id=a", "-netdev: type 'user' is not supported; use tap"},
    {D "-netdev tap,ifname=a", "-netdev: id= is missing in 'tap,ifname=a'"},
    {D "-netdev tap,id=a", "-netdev: a tap needs ifname=NAME (or fd=)"},
    {D "-netdev tap,id=a,ifname=b,fd=3", "-netdev: ifname= together with fd=; use one of them"},
    {D "-netdev tap,id=a,ifname=a/b", "-netdev: 'a/b' is not an interface name"},
    {D "-netdev tap,id=a,ifname=vif%d", "-netdev: 'vif%d' is not an interface name"},
    {D "-netdev tap,id=a,ifname=abcdefghijklmnop",
     "-netdev: interface name 'abcdefghijklmnop' is longer than 15 characters"},
    {D "-netdev tap,id=a,ifname=b,script=/etc/up", "-netdev: bad value script=/etc/up; it must be no"},
    {D "-netdev tap,id=a,ifname=b", "-netdev: 'a' is not used by a NIC; add -device MODEL,netdev=a"},
    {D "-netdev tap,id=a,ifname=b -netdev tap,id=a,ifname=c", "-netdev: id 'a' is used twice"},
    {D "-device e1000,netdev=a", "-device: e1000: netdev 'a' does not exist; add -netdev tap,id=a,ifname=..."},
    {D "-device e1000,netdev=a -device e1000,netdev=a -netdev tap,id=a,ifname=b",
     "-device: netdev 'a' is used by two NICs"},
    {D "-device e1000,mac=00:11:22:33:44",
     "-device: bad MAC address '00:11:22:33:44'; it must be like 00:16:3e:12:34:56"},
    {D "-device e1000,mac=00:11:22:33:44:5g",
     "-device: bad MAC address '00:11:22:33:44:5g'; it must be like 00:16:3e:12:34:56"},
    {D "-net nic,model=foo", "-net: unknown NIC model 'foo'"},
    {D "-object filter-dump,id=a,netdev=b", "-object: 'filter-dump,id=a,netdev=b' is not supported; use filter-dump,id=ID,netdev=ID,file=PATH"},
    {D "-object filter-dump,id=a,netdev=b,file=c", "-object: netdev 'b' does not exist"},
    {D "-device e1000,netdev=b -netdev tap,id=b,ifname=c -object filter-dump,id=a,netdev=b,file=c -object filter-dump,id=d,netdev=b,file=e",
     "-object: netdev 'b' has two captures"},
    {D "-net none -device e1000", "-net: none together with a NIC (e1000); drop one of them"},
};

static void test_bad_lines(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(bad_lines) / sizeof(bad_lines[0]); i++) {
        int rc = parse(bad_lines[i].line);

        assert_string_equal(err, bad_lines[i].message);
        assert_int_equal(rc, -EINVAL);
    }
}

/* Lines that are understood and refused as a whole. */
static const struct {
    const char *line, *message;
} unsupported_lines[] = {
    {D "-device e1000 -device pcnet",
     "-device: NIC model pcnet is not supported; use model=e1000 or model=rtl8139 in vif="},
    {D "-device qemu-xhci,id=usb", "-device: USB device qemu-xhci is not supported; use usbdevice=\"tablet\" or "
                                   "usbversion=1, 2 or 3 in the guest's config"},
    {D "-usb -device usb-host", "-device: USB device usb-host is not supported; use usbdevice=\"tablet\" or "
                                "usbversion=1, 2 or 3 in the guest's config"},
    {D "-device lsi53c895a", "-device: lsi53c895a is not supported yet; use hda or xvda instead of sda in disk="},
    {D "-fda /f", "-drive: the bus of 'drive0-hd0' is not supported yet; use if=ide"},
    {D "-drive file=/a,format=qed",
     "-drive: format=qed is not supported yet; convert the image with qemu-img convert -O raw"},
    {D "-drive file=/a,cache=writethrough",
     "-drive: the cache mode of 'ide0-hd0' is not supported yet; use cache=writeback"},
    {D "-device qxl-vga", "-device: graphics adapter qxl-vga is not supported; use vga=\"stdvga\" or vga=\"cirrus\""},
    {D "-vga virtio", "-device: graphics adapter virtio is not supported; use vga=\"stdvga\" or vga=\"cirrus\""},
    {D "-spice port=1", "-spice: not supported; use vnc=1 instead of spice=1 in the guest's config"},
    {D "-device ac97", "-device: sound card ac97 is not supported yet; take soundhw= out of the guest's config"},
    {D "-device xen-pvdevice,device-id=0xc000",
     "-device: xen-pvdevice is not supported yet; take vendor_device= out of the guest's config"},
    {D "-kernel /k", "-kernel: direct boot of /k is not supported yet; boot from a disk or CD"},
    {D "-incoming fd:3", "-incoming: restoring a guest is not supported yet; start it afresh"},
    {D "-chroot /x", "-chroot: not supported yet; take dm_restrict= and device_model_user= out of the guest's config"},
    {D "-machine xenfv,igd-passthru=on",
     "-machine: igd-passthru is not supported; take gfx_passthru= out of the guest's config"},
    {D "-chardev pty,id=libxl-channel0",
     "-chardev: nothing uses 'libxl-channel0'; channel= in the guest's config is not supported yet"},
    {D "-chardev pty,id=a\x13",
     "-chardev: nothing uses 'a?'; channel= in the guest's config is not supported yet"}, /* found by fuzzing */
    {D "-device virtio-serial", "-device: virtio-serial is not supported; take it out of the guest's config"},
};

static void test_unsupported(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(unsupported_lines) / sizeof(unsupported_lines[0]); i++) {
        good(unsupported_lines[i].line);
        assert_int_equal(options_check_supported(&o, err, sizeof(err)), -ENOTSUP);
        assert_string_equal(err, unsupported_lines[i].message);
    }
}

static void test_help_and_version(void **state)
{
    (void)state;
    assert_int_equal(parse("-help"), OPTIONS_HELP);
    assert_int_equal(parse("-h"), OPTIONS_HELP);
    assert_int_equal(parse("--help -nonsense"), OPTIONS_HELP);
    assert_int_equal(parse("-version"), OPTIONS_VERSION);
    assert_int_equal(parse("--version"), OPTIONS_VERSION);
    assert_null(
        strstr(options_help_text(), "Options specific to the Xen version:")); /* libvirt would take us for another */
    assert_non_null(strstr(options_help_text(), "-xen-domid"));
    assert_non_null(strstr(options_help_text(), "-L DIR"));
    assert_ptr_equal(options_help_text(), options_help_text());
    assert_int_equal(options_help_text()[strlen(options_help_text()) - 1], '\n');
    assert_memory_equal(options_version_text(), "hvm-dm version ", 15);
}

/* Messages stay one line and inside the buffer whatever the line says. */
static void test_message_bounds(void **state)
{
    char long_name[4000];
    char program[] = "hvm-dm";
    char control[] = "-a\nb\x1b[31m";
    char *argv[] = {program, long_name, NULL};
    char small[24];

    (void)state;
    memset(long_name, 'x', sizeof(long_name) - 1);
    long_name[0] = '-';
    long_name[sizeof(long_name) - 1] = '\0';
    assert_int_equal(options_parse(&o, 2, argv, err, sizeof(err)), -EINVAL);
    assert_true(strlen(err) < 120);
    options_free(&o);
    assert_int_equal(options_parse(&o, 2, argv, small, sizeof(small)), -EINVAL);
    assert_int_equal(strlen(small), sizeof(small) - 1);
    options_free(&o);
    argv[1] = control;
    assert_int_equal(options_parse(&o, 2, argv, err, sizeof(err)), -EINVAL);
    assert_string_equal(err, "-a?b?[31m: unknown option; see -help for what is known");
}

static void test_bounds(void **state)
{
    char line[8192];

    (void)state;
    /* one more of each than there is room for */
    static const struct {
        const char *head, *item, *message;
        int count;
    } rows[] = {
        {"-xen-domid 1", " -device ide-cd,id=i%d", "-device: no free IDE place for 'i4'; there are four", 5},
        {"-xen-domid 1", " -device e1000,id=i%d", "-device: more than 8 NICs", 9},
        {"-xen-domid 1 -device lsi", " -drive if=virtio,file=/f%d", "-drive: more than 32 drives", 33},
        {"-xen-domid 1", " -chardev null,id=i%d", "-chardev: more than 32 character devices", 33},
        {"-xen-domid 1", " -mon i%d,mode=control", "-mon: more than 4 monitors", 5},
        {"-xen-domid 1", " -device virtio-serial,id=i%d", "-device: no free PCI slot for virtio-serial", 31},
        {"-xen-domid 1", " -netdev tap,id=i%d,ifname=t", "-netdev: more than 8 network back ends", 9},
        {"-xen-domid 1", " -device usb-kbd,id=i%d", "-device: more than 16 USB devices", 17},
        {"-xen-domid 1", " -device sb16,id=i%d", "-device: more than 8 sound devices", 9},
    };
    for (size_t r = 0; r < sizeof(rows) / sizeof(rows[0]); r++) {
        int n = snprintf(line, sizeof(line), "%s", rows[r].head);

        for (int i = 0; i < rows[r].count; i++) {
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
            n += snprintf(line + n, sizeof(line) - (size_t)n, rows[r].item, i);
#pragma GCC diagnostic pop
        }
        assert_int_equal(parse(line), -EINVAL);
        assert_string_equal(err, rows[r].message);
    }
    {
        int n = snprintf(line, sizeof(line), "-xen-domid 1 -drive file=/a");

        for (int i = 0; i < 40; i++) {
            n += snprintf(line + n, sizeof(line) - (size_t)n, ",id=a");
        }
        assert_int_equal(parse(line), -EINVAL);
        assert_non_null(strstr(err, "-drive: more than 32 keys in "));
    }
}

static void test_numbers(void **state)
{
    static const struct {
        const char *text;
        bool good;
        uint64_t value;
    } uints[] = {
        {"0", true, 0},     {"18446744073709551615", true, UINT64_MAX},
        {"0x1F", true, 31}, {"010", true, 10},
        {"", false, 0},     {"18446744073709551616", false, 0},
        {"0x", false, 0},   {" 1", false, 0},
        {"+1", false, 0},   {"-1", false, 0},
        {"1 ", false, 0},   {"1e3", false, 0},
    };
    uint64_t value;
    bool flag;

    (void)state;
    for (size_t i = 0; i < sizeof(uints) / sizeof(uints[0]); i++) {
        assert_int_equal(optnum_uint(uints[i].text, 0, UINT64_MAX, &value), uints[i].good);
        if (uints[i].good) {
            assert_int_equal(value, uints[i].value);
        }
    }
    assert_false(optnum_uint("4", 5, 9, &value));
    assert_false(optnum_uint("10", 5, 9, &value));
    assert_true(optnum_size("3", 1 << 20, 0, UINT64_MAX, &value));
    assert_int_equal(value, 3 << 20);
    assert_true(optnum_size("3b", 1 << 20, 0, UINT64_MAX, &value));
    assert_int_equal(value, 3);
    assert_true(optnum_size("2T", 1, 0, UINT64_MAX, &value));
    assert_int_equal(value, 2ull << 40);
    assert_false(optnum_size("2TB", 1, 0, UINT64_MAX, &value));
    assert_false(optnum_size("99999999T", 1, 0, UINT64_MAX, &value));
    assert_true(optnum_bool("yes", &flag) && flag);
    assert_true(optnum_bool("false", &flag) && !flag);
    assert_false(optnum_bool("1", &flag));
    assert_true(optword_in("a|bc|d", "bc", 2));
    assert_false(optword_in("a|bc|d", "b", 1));
    assert_false(optword_in("a|bc|d", "", 0));
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_observed_line, teardown),
        cmocka_unit_test_teardown(test_libxl_rows, teardown),
        cmocka_unit_test_teardown(test_libxl_disks, teardown),
        cmocka_unit_test_teardown(test_libxl_nics, teardown),
        cmocka_unit_test_teardown(test_pci_slots, teardown),
        cmocka_unit_test_teardown(test_spellings, teardown),
        cmocka_unit_test_teardown(test_sdl_forms, teardown),
        cmocka_unit_test_teardown(test_vnc_forms, teardown),
        cmocka_unit_test_teardown(test_bad_lines, teardown),
        cmocka_unit_test_teardown(test_unsupported, teardown),
        cmocka_unit_test_teardown(test_help_and_version, teardown),
        cmocka_unit_test_teardown(test_message_bounds, teardown),
        cmocka_unit_test_teardown(test_bounds, teardown),
        cmocka_unit_test_teardown(test_numbers, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
