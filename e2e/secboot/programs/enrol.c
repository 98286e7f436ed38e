/*
 * Hands every update in \updates.bin to the firmware, in order, prints what the
 * firmware says to each, and turns the machine off. The file is a row of records:
 * struct update, then its data, all little-endian (see updates.go).
 */
#include <efi.h>
#include <efilib.h>

struct update {
	UINT32 attributes;
	UINT32 size; /* of the data behind this struct */
	EFI_GUID vendor;
	CHAR16 name[8]; /* ends with a zero */
};

static UINT8 *read_updates(EFI_HANDLE image, UINTN *size)
{
	EFI_LOADED_IMAGE *loaded;
	EFI_FILE_HANDLE volume, file;
	EFI_FILE_INFO *info;
	UINT8 *data;

	if (EFI_ERROR(uefi_call_wrapper(BS->HandleProtocol, 3, image, &LoadedImageProtocol, (void **)&loaded)))
		return NULL;
	volume = LibOpenRoot(loaded->DeviceHandle);
	if (!volume || EFI_ERROR(uefi_call_wrapper(volume->Open, 5, volume, &file, L"\\updates.bin", EFI_FILE_MODE_READ, (UINT64)0)))
		return NULL;
	info = LibFileInfo(file);
	if (!info)
		return NULL;
	*size = info->FileSize;
	data = AllocatePool(*size);
	if (!data || EFI_ERROR(uefi_call_wrapper(file->Read, 3, file, size, data)))
		return NULL;
	return data;
}

EFI_STATUS efi_main(EFI_HANDLE image, EFI_SYSTEM_TABLE *table)
{
	UINTN size = 0, at = 0;
	UINT8 *data;

	InitializeLib(image, table);
	data = read_updates(image, &size);
	while (data && size - at >= sizeof(struct update)) {
		struct update *u = (struct update *)(data + at);
		EFI_STATUS status;

		at += sizeof(*u);
		if (u->size > size - at)
			break;
		status = uefi_call_wrapper(RT->SetVariable, 5, u->name, &u->vendor, u->attributes, (UINTN)u->size, data + at);
		Print(L"enrol: %s status=%lx\n", u->name, (UINT64)status);
		at += u->size;
	}
	Print(L"enrol: done with %d of %d octets\n", at, size);
	uefi_call_wrapper(RT->ResetSystem, 4, EfiResetShutdown, EFI_SUCCESS, (UINTN)0, NULL);
	return EFI_SUCCESS;
}
