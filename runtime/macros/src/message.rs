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
