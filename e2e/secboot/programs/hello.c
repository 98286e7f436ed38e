/*
 * Says that it runs, and whether Secure Boot is on, and turns the machine off.
 */
#include <efi.h>
#include <efilib.h>

EFI_STATUS efi_main(EFI_HANDLE image, EFI_SYSTEM_TABLE *table)
{
	EFI_GUID global = EFI_GLOBAL_VARIABLE;
	UINTN size;
	UINT8 *secure;

	InitializeLib(image, table);
	secure = LibGetVariableAndSize(L"SecureBoot", &global, &size);
	Print(L"hello: SecureBoot=%d\n", secure ? *secure : -1);
	uefi_call_wrapper(RT->ResetSystem, 4, EfiResetShutdown, EFI_SUCCESS, (UINTN)0, NULL);
	return EFI_SUCCESS;
}
