//! `#[derive(Message)]`: the result type from `#[rtype(result = "..")]`, as actix reads it.

use proc_macro2::TokenStream;
use quote::quote;
use syn::parse::{Parse, ParseStream};
use syn::{DeriveInput, Error, LitStr, Result, Token, Type};

/// The content of `rtype(..)`: `result = "Type"`, or `result = Type`.
struct ResultType(Type);

impl Parse for ResultType {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        let name: syn::Ident = input.parse().map_err(|error| {
            Error::new(
                error.span(),
                "write the result type as #[rtype(result = \"Type\")]",
            )
        })?;
        if name != "result" {
            return Err(Error::new(
                name.span(),
                "unknown option; write #[rtype(result = \"Type\")]",
            ));
        }
        input.parse::<Token![=]>()?;
        let result = if input.peek(LitStr) {
            input.parse::<LitStr>()?.parse()?
        } else {
            input.parse()?
        };
        if !input.is_empty() {
            return Err(input.error("nothing may follow the result type"));
        }
        Ok(Self(result))
    }
}

pub(crate) fn expand(input: &DeriveInput) -> Result<TokenStream> {
    let mut found: Option<Type> = None;
    for attribute in input.attrs.iter().filter(|a| a.path().is_ident("rtype")) {
        let ResultType(result) = attribute.parse_args()?;
        if found.replace(result).is_some() {
            return Err(Error::new_spanned(
                attribute,
                "the result type is given twice",
            ));
        }
    }
    let Some(result) = found else {
        return Err(Error::new_spanned(
            &input.ident,
            "a message names its result type: add #[rtype(result = \"Type\")], or #[rtype(result = \"()\")] for none",
        ));
    };
    let name = &input.ident;
    let (impl_generics, type_generics, where_clause) = input.generics.split_for_impl();
    Ok(quote! {
        #[automatically_derived]
        impl #impl_generics ::synod::Message for #name #type_generics #where_clause {
            type Result = #result;
        }
    })
}

#[cfg(test)]
mod tests {
    use syn::parse_quote;

    use super::*;

    fn said(input: DeriveInput) -> String {
        expand(&input).expect_err("it must not expand").to_string()
    }

    #[test]
    fn a_message_without_a_result_type_is_told_how_to_name_one() {
        // What bad input gets: one sentence that names the fix.
        let text = said(parse_quote! {
            struct Deposit { amount: u64 }
        });
        assert!(text.contains("#[rtype(result = \"()\")]"), "{text}");
        let text = said(parse_quote! {
            #[rtype(answer = "u64")]
            struct Deposit { amount: u64 }
        });
        assert!(text.contains("unknown option"), "{text}");
    }

    #[test]
    fn the_result_type_may_be_a_string_or_a_type() {
        // actix reads a string; a type reads better.
        let text = expand(&parse_quote! {
            #[rtype(result = "Result<u64, Overdrawn>")]
            struct Withdraw { amount: u64 }
        });
        let bare = expand(&parse_quote! {
            #[rtype(result = Result<u64, Overdrawn>)]
            struct Withdraw { amount: u64 }
        });
        let text = text.expect("a string").to_string();
        assert_eq!(text, bare.expect("a type").to_string());
        assert!(text.contains(":: synod :: Message"));
        assert!(
            !text.contains("actix"),
            "S22: the user does not depend on actix"
        );
    }
}
